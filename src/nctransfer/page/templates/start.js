/* All begins here. A part that fails must not take the others with it. */

function start(part) {
  try {
    return part();
  } catch (error) {
    console.error(error);
    return [];
  }
}

function viewsOf(attribute, View, data) {
  return [...document.querySelectorAll(`[data-${attribute}]`)].map((figure) => new View(figure, data[Number(figure.dataset[attribute])]));
}

document.documentElement.classList.add("has-script");
for (const part of [startTheme, startPrinting, startEscape, startHighlight, startContents, startImages, startTables, startRoving, startScrolling, startFilter, startFindings]) start(part);
start(() => viewsOf("matrix", MatrixView, report.matrices));
const maps = start(() => viewsOf("map", ImageMapView, report.maps));
start(() => startPlanes(maps));
start(() => startEnlarging(maps));
onEscape(dismissTooltip);
