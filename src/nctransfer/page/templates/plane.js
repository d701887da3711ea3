/* The exact plane of two or three classes, by the formula of nctransfer.maps.class_planes. */

const ON_THE_LINE = 1e-6; // squared height of the third point above the line of the first two, relative, below which it lies on it

/**
 * Orthogonal projection of images onto the plane through p and q, the means of two classes, and r: the mean of a third class, or
 * (`third` is null) the mean of all images. x runs from p to q and is 0 halfway between them; y is orthogonal and points to r.
 *
 * All vectors are less the mean of all images. `places` are rows of `gram`, whose entries are products of class means; `count` is
 * their number; `products` holds the product of each image with each class mean. If r lies on the line through p and q, a
 * principal axis takes its place: `points` and `means` are coordinates on both axes, of images and of class means.
 *
 * Returns x and y of the images and `corners`: p, q and r (left out where a principal axis took its place) as [x, y]; null if p and
 * q are the same point.
 */
function planeOf({ products, gram, count, points, means }, [p, q, third = null]) {
  const dot = (k, l) => (k === null || l === null ? 0 : gram[k * count + l]);
  const squared = dot(p, p) - 2 * dot(p, q) + dot(q, q); // |q - p|²
  if (!(squared > 0)) return null;
  const length = Math.sqrt(squared);
  const middleAlong = (dot(q, q) - dot(p, p)) / 2; // o · e, with o = (p + q) / 2 and e = q - p
  const middle = (dot(p, p) + 2 * dot(p, q) + dot(q, q)) / 4; // o · o
  const toThird = (dot(third, p) + dot(third, q)) / 2; // o · r
  let lean = dot(third, q) - dot(third, p) - middleAlong; // s · e, with s = r - o
  let middleAcross = toThird - middle; // o · s
  const side = dot(third, third) - 2 * toThird + middle; // s · s
  let height = side - lean ** 2 / squared;
  let axis = null;
  if (height <= ON_THE_LINE * (side + squared)) {
    const slopes = [0, 1].map((one) => means[2 * q + one] - means[2 * p + one]);
    const heights = slopes.map((slope) => 1 - slope ** 2 / squared);
    axis = heights[0] > heights[1] ? 0 : 1;
    height = heights[axis] > ON_THE_LINE ? heights[axis] : 0;
    lean = slopes[axis];
    middleAcross = (means[2 * p + axis] + means[2 * q + axis]) / 2;
  }
  const tall = Math.sqrt(height);
  const project = (zp, zq, zs) => {
    const along = zq - zp - middleAlong;
    return [along / length, tall > 0 ? (zs - middleAcross - (lean / squared) * along) / tall : 0];
  };
  const images = products.length / count;
  const [x, y] = [new Float32Array(images), new Float32Array(images)];
  for (let i = 0; i < images; i++) {
    const [zp, zq] = [products[i * count + p], products[i * count + q]];
    const zr = third === null ? 0 : products[i * count + third];
    [x[i], y[i]] = project(zp, zq, axis === null ? zr - (zp + zq) / 2 : points[2 * i + axis]);
  }
  const corners = [[-length / 2, 0], [length / 2, 0]];
  if (axis === null) corners.push([lean / length, tall]);
  return { x, y, corners };
}

/**
 * Where two of three means are equally near, and the third is not nearer: for each pair a half-line [x, y, dx, dy] from the point
 * that is equally far from all three. As the projection is orthogonal, these borders are those of the full space.
 */
function bordersOf([a, b, c]) {
  const square = ([x, y]) => x * x + y * y;
  const d = 2 * (a[0] * (b[1] - c[1]) + b[0] * (c[1] - a[1]) + c[0] * (a[1] - b[1]));
  const x = (square(a) * (b[1] - c[1]) + square(b) * (c[1] - a[1]) + square(c) * (a[1] - b[1])) / d;
  const y = (square(a) * (c[0] - b[0]) + square(b) * (a[0] - c[0]) + square(c) * (b[0] - a[0])) / d;
  return [[a, b, c], [b, c, a], [c, a, b]].map(([one, two, other]) => {
    const [dx, dy] = [one[1] - two[1], two[0] - one[0]];
    const sign = dx * (one[0] - other[0]) + dy * (one[1] - other[1]) > 0 ? 1 : -1; // away from the third mean
    return [x, y, sign * dx, sign * dy];
  });
}
