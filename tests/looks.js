// What is wrong with how a page looks: called in the page by tests/test_site.py.
// `geometry()` looks at where texts are, `contrast()` at their colours; both give sentences, of which there should be none.
(function () {
  "use strict";
  const near = (a, b) => Math.abs(a - b) < 1;
  const short = (text) => JSON.stringify(text.trim().replace(/\s+/g, " ").slice(0, 40));

  // Every piece of text, with the element that it is in.
  function* texts(root) {
    const walk = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
      const parent = walk.currentNode.parentElement;
      if (walk.currentNode.data.trim() && !parent.closest("script, style, title, noscript, template")) {
        yield [walk.currentNode, parent];
      }
    }
  }

  function memo(find) {
    const known = new Map();
    return (element) => {
      if (!known.has(element)) known.set(element, find(element));
      return known.get(element);
    };
  }

  // Where texts are.

  const scrolls = (style) => style.overflowX === "auto" || style.overflowX === "scroll" || style.overflowX === "hidden";

  // Colours and places as they are in the end, not on the way there.
  function still() {
    if (document.getElementById("still")) return;
    const style = document.createElement("style");
    style.id = "still";
    style.textContent = "*, *::before, *::after { transition: none !important; }";
    document.head.append(style);
  }

  function geometry() {
    still();
    const found = [], boxes = [], width = document.documentElement.clientWidth;
    const style = memo((element) => getComputedStyle(element));
    const box = memo((element) => element.getBoundingClientRect());
    const seen = memo((element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true }));
    // What stays in its place while the rest is scrolled may lie over it; drawers beside the window are closed.
    const pinned = memo((element) => (!element || element === document.body ? null
      : /fixed|sticky/.test(style(element).position) ? element : pinned(element.parentElement)));
    const closed = memo((element) => element && (box(element).right <= 0 || box(element).left >= width));
    // The nearest box that texts should stay in, and the nearest one that cuts them off, by scrolling or otherwise.
    const block = memo((element) => (/inline|contents/.test(style(element).display) ? block(element.parentElement) : element));
    const window_ = memo((element) => (!element || element === document.body || element === document.documentElement ? null
      : scrolls(style(element)) ? element : window_(element.parentElement)));
    const range = document.createRange();
    for (const [text, parent] of texts(document.body)) {
      if (!seen(parent) || closed(pinned(parent))) continue;
      const svg = parent.closest("svg");
      const cut = window_(parent), owner = svg || block(parent);
      range.selectNodeContents(text);
      for (const rect of range.getClientRects()) {
        if (rect.width < 1 || rect.height < 1) continue;
        let { left, right, top, bottom } = rect;
        if (cut) {
          const edge = box(cut);
          [left, right] = [Math.max(left, edge.left), Math.min(right, edge.right)];
          [top, bottom] = [Math.max(top, edge.top), Math.min(bottom, edge.bottom)];
          if (right <= left || bottom <= top) continue;
        } else {
          const edge = box(owner);
          if (left < edge.left - 1 || right > edge.right + 1) found.push(`${short(text.data)} leaves its ${owner.tagName}`);
        }
        if (left < -1 || right > width + 1) found.push(`${short(text.data)} leaves the window`);
        // Lines may stand close: what is above and below the letters belongs to nobody.
        const slack = (bottom - top) / 5;
        if (!pinned(parent)) boxes.push({ left: left + 1, right: right - 1, top: top + slack, bottom: bottom - slack, text, parent });
      }
    }
    const whole = document.scrollingElement.scrollWidth;
    if (whole > width) found.push(`the page is ${whole} wide and scrolls sideways in a window of ${width}`);
    return [...found, ...overlaps(boxes), ...pictures()];
  }

  function overlaps(boxes) {
    const found = [];
    boxes.sort((a, b) => a.top - b.top);
    let open = [];
    for (const box of boxes) {
      open = open.filter((other) => other.bottom > box.top);
      for (const other of open) {
        if (other.text !== box.text && other.left < box.right && box.left < other.right) {
          found.push(`${short(box.text.data)} lies over ${short(other.text.data)}`);
        }
      }
      open.push(box);
    }
    return found;
  }

  function pictures() {
    return [...document.querySelectorAll("article img, article svg")]
      .filter((one) => one.checkVisibility({ opacityProperty: true, visibilityProperty: true }))
      .filter((one) => { const { width, height } = one.getBoundingClientRect(); return width < 8 || height < 8 || one.naturalWidth === 0; })
      .map((one) => `a picture has no size: ${one.outerHTML.slice(0, 60)}`);
  }

  // Colours: [red, green, blue, opacity] from 0 to 1, however CSS writes them.

  const brush = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const colour = memo((words) => {
    brush.clearRect(0, 0, 1, 1);
    brush.fillStyle = words;
    brush.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = brush.getImageData(0, 0, 1, 1).data;
    return [r / 255, g / 255, b / 255, a / 255];
  });
  const over = (top, below) => below.map((part, i) => (i < 3 ? top[3] * top[i] + (1 - top[3]) * part : 1));

  function luminance(rgb) {
    const [r, g, b] = rgb.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }

  function contrast(least) {
    still();
    // Elements of code with the same names in the same block look the same.
    const kinds = new Map();
    const name = memo((element) => (element.tagName === "PRE" ? element : one(name(element.parentElement), element.className)));
    function one(parent, words) {
      if (!kinds.has(parent)) kinds.set(parent, new Map());
      const known = kinds.get(parent);
      if (!known.has(words)) known.set(words, {});
      return known.get(words);
    }
    const style = memo((element) => getComputedStyle(element));
    const behind = memo((element) => (element ? over(colour(style(element).backgroundColor), behind(element.parentElement)) : [1, 1, 1, 1]));
    const opacity = memo((element) => (element ? Number(style(element).opacity) * opacity(element.parentElement) : 1));
    const ratio = memo((element) => {
      const words = element.closest("svg") ? style(element).fill : style(element).color;
      const ground = behind(element), ink = [...colour(words)];
      ink[3] *= opacity(element);
      const [light, dark] = [luminance(over(ink, ground)), luminance(ground)].sort((a, b) => b - a);
      return (light + 0.05) / (dark + 0.05);
    });
    const found = new Set(), done = new Set();
    for (const [text, parent] of texts(document.body)) {
      const kind = parent.closest("pre") ? name(parent) : parent;
      if (done.has(kind)) continue;
      done.add(kind);
      if (opacity(parent) && ratio(parent) < least) {
        const where = `${parent.tagName.toLowerCase()}.${[...parent.classList].join(".")} in ${parent.parentElement.className}`;
        found.add(`${short(text.data)} (${where}): ${ratio(parent).toFixed(2)}, ${style(parent).color}`);
      }
    }
    return [...found];
  }

  // What is folded away, and the tab of that number of each set of tabs.
  const unfold = () => document.querySelectorAll("details").forEach((one) => { one.open = true; });
  const turn = (tab) => document.querySelectorAll(".sd-tab-set").forEach((set) => {
    set.querySelectorAll(":scope > input")[tab].checked = true;
  });

  window.looks = { unfold, turn, geometry, contrast, still };
})();
