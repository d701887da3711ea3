/* The table of contents: it shows which section is read, and on narrow screens it is a menu in the bar. */

function startContents() {
  const links = new Map([...document.querySelectorAll(".contents a")].map((link) => [link.hash.slice(1), link]));
  const watcher = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting) continue;
        for (const link of links.values()) link.removeAttribute("aria-current");
        links.get(`${target.id}-title`)?.setAttribute("aria-current", "true");
      }
    },
    { rootMargin: "-15% 0px -75% 0px" },
  );
  for (const section of document.querySelectorAll("main > section[id]")) watcher.observe(section);
  startMenu();
}

function startMenu() {
  const menu = document.querySelector(".contents details");
  const isWide = matchMedia("(min-width: 68rem)");
  const close = () => {
    const wasOpen = menu.open && !isWide.matches;
    menu.open = isWide.matches;
    return wasOpen;
  };
  isWide.addEventListener("change", close);
  menu.addEventListener("click", (event) => event.target.closest("a") && close());
  document.addEventListener("pointerdown", (event) => menu.contains(event.target) || close());
  onEscape(close);
  close();
}
