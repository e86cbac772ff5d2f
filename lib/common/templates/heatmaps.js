"use strict";
// Reads window.heatmaps of data.js: labels, colors (256 RGB in base64), maps ([name, meaning]), how
// many of these are shown together, and pictures; a tag of a picture is [label's number, score,
// verdict, then each map's levels in base64].
(() => {
  const MORE = 60; // cards that are added at a time
  const SHOWN = 8; // tags of a card
  const FINE = 160; // pixels of a heatmap's longer side
  const NONE = "no label reaches the threshold";
  const SIGNS = { correct: "✓", missed: "○", "false alarm": "✗", predicted: "" };
  const KINDS = { correct: "Correct", missed: "Missed", "false alarm": "False alarms" };
  const $ = (id) => document.getElementById(id);
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

  const all = window.heatmaps;
  if (!all) {
    $("message").textContent =
      "data.js is missing beside this page: copy the folder visualization as a whole.";
    $("message").hidden = false;
    return;
  }
  const colors = bytes(all.colors);
  const wanted = { label: -1, verdict: "", order: "file" };
  let shown = []; // pictures that pass the filters, in order
  let current = 0; // of `shown`, in the viewer
  let chosen = -1; // the label whose heatmap the viewer shows, -1 for none
  let bare = false; // whether the viewer hides the heatmap
  let maps = [0]; // those of all.maps that are shown, side by side

  function element(name, properties = {}, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  // --- pictures and heatmaps

  function frame(picture, file, lazy) {
    const image = element("img", {
      loading: lazy ? "lazy" : "eager", decoding: "async", alt: described(picture),
      width: picture.size[0], height: picture.size[1], src: file,
    });
    const panes = maps.map(() => element("div", { className: "pane" }, image.cloneNode()));
    const made = element("div", { className: "frame" }, ...panes);
    made.style.setProperty("--ratio", (maps.length * picture.size[0]) / picture.size[1]);
    return made;
  }

  function described(picture) {
    const names = picture.tags.map((tag) => `${all.labels[tag[0]]} ${tag[2]}`);
    return `${picture.path}: ${names.join(", ") || "no label"}`;
  }

  // The levels are smoothed, then coloured: colours between two others would be other ones.
  function lay(box, picture, tag) {
    for (const old of box.querySelectorAll("canvas, .box")) old.remove();
    if (tag) [...box.children].forEach((pane, place) => layOne(pane, picture, tag, maps[place]));
  }

  function layOne(box, picture, tag, map) {
    const [height, width] = picture.grid;
    const name = all.labels[tag[0]];
    const fine = Math.max(1, Math.round(FINE / Math.max(height, width))); // pixels of a patch
    const rows = stretched(bytes(tag[3 + map]), height, width, fine); // turned: (width, fine height)
    const levels = stretched(rows, width, height * fine, fine);
    const canvas = element("canvas", { width: width * fine, height: height * fine, role: "img" });
    canvas.ariaLabel = `heatmap of ${name}: ${all.maps[map][0]}`;
    canvas.dataset.label = name;
    const pixels = new ImageData(canvas.width, canvas.height);
    levels.forEach((level, place) => {
      const rounded = Math.round(level);
      pixels.data.set(colors.subarray(3 * rounded, 3 * rounded + 3), 4 * place);
      pixels.data[4 * place + 3] = 255 * 0.35 + level * 0.35;
    });
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    box.append(canvas);
    if (picture.boxes && map === 0) { // of the first map
      const [x0, y0, x1, y1] = picture.boxes[picture.tags.indexOf(tag)];
      const [left, top, width, height] = [x0, y0, x1 - x0, y1 - y0].map((share) => `${100 * share}%`);
      const outline = element("div", { className: "box" });
      Object.assign(outline.style, { left, top, width, height });
      box.append(outline);
    }
  }

  // (height, width) levels -> (width, height * fine), by cubic weights along the height
  function stretched(levels, height, width, fine) {
    const found = new Float32Array(width * height * fine);
    for (let place = 0; place < height * fine; place++) {
      const center = (place + 0.5) / fine - 0.5;
      const first = Math.floor(center) - 1;
      const taps = [0, 1, 2, 3].map((tap) => {
        const row = Math.min(Math.max(first + tap, 0), height - 1);
        return [row * width, cubic(Math.abs(center - first - tap))];
      });
      for (let column = 0; column < width; column++) {
        let level = 0;
        for (const [start, weight] of taps) level += weight * levels[start + column];
        found[column * height * fine + place] = Math.min(Math.max(level, 0), 255);
      }
    }
    return found;
  }

  const cubic = (x) =>
    x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;

  function tagButton([number, score, verdict], long) {
    const name = all.labels[number];
    const button = element(
      "button",
      { type: "button", className: `tag mark ${verdict.split(" ")[0]}`, title: verdict },
      element("span", { textContent: `${SIGNS[verdict]} ${name}`.trim() }),
      long ? "" : " ",
      element("span", { className: "score", textContent: score.toFixed(long ? 3 : 2) }),
    );
    button.ariaLabel = `${name}, score ${score.toFixed(2)}, ${verdict}: heatmap`;
    button.ariaPressed = "false";
    return button;
  }

  // --- filters

  const passes = (tag) =>
    (wanted.label < 0 || tag[0] === wanted.label) && (!wanted.verdict || tag[2] === wanted.verdict);

  function key(picture, sign) {
    return Math.max(-Infinity, ...picture.tags.filter(passes).map((tag) => sign * tag[1]));
  }

  function filter() {
    const open = wanted.label < 0 && !wanted.verdict;
    shown = all.pictures.filter((picture) => open || picture.tags.some(passes));
    if (wanted.order !== "file") {
      const sign = wanted.order === "high" ? 1 : -1;
      const keys = new Map(shown.map((picture) => [picture, key(picture, sign)]));
      shown.sort((a, b) => keys.get(b) - keys.get(a) || 0);
    }
    $("count").textContent = `${shown.length} of ${all.pictures.length} images`;
    countVerdicts();
    $("cards").replaceChildren();
    more();
  }

  function fillFilters() {
    const counts = new Map();
    const kinds = new Set();
    for (const [number, , kind] of all.pictures.flatMap((picture) => picture.tags)) {
      counts.set(number, (counts.get(number) ?? 0) + 1);
      kinds.add(kind);
    }
    $("label").append(new Option("all", "-1"));
    all.labels.forEach((name, number) => {
      if (counts.has(number)) $("label").append(new Option(`${name} (${counts.get(number)})`, number));
    });
    if (!Object.keys(KINDS).some((kind) => kinds.has(kind))) return;
    $("verdicts").hidden = false;
    for (const kind of ["", ...Object.keys(KINDS)]) {
      const button = element("button", { type: "button" });
      button.dataset.verdict = kind;
      button.onclick = () => { wanted.verdict = kind; filter(); };
      $("verdicts").append(button);
    }
  }

  // how many pictures have each verdict, of the label that is filtered for
  function countVerdicts() {
    for (const button of $("verdicts").children) {
      const kind = button.dataset.verdict;
      const counted = ([number, , verdict]) =>
        verdict === kind && (wanted.label < 0 || number === wanted.label);
      const count = all.pictures.filter((picture) => picture.tags.some(counted)).length;
      button.textContent = kind ? `${SIGNS[kind]} ${KINDS[kind]} (${count})` : "All";
      button.ariaPressed = String(kind === wanted.verdict);
    }
  }

  // --- the kinds of heatmaps

  function fillMaps() {
    const kinds = all.maps.map((_, number) => [number]);
    if (kinds.length > 1) {
      $("maps").hidden = $("map-key").hidden = false;
      kinds.push(kinds.flat());
    }
    for (const kind of kinds) {
      const name = kind.length > 1 ? "side by side" : all.maps[kind[0]][0];
      const button = element("button", { type: "button", textContent: name });
      button.onclick = () => { chooseMaps(kind); filter(); };
      $("maps").append(button);
    }
    chooseMaps(kinds[all.together > 1 ? kinds.length - 1 : 0]);
  }

  function chooseMaps(kind) {
    maps = kind;
    $("map").textContent = maps.map((number) => all.maps[number][0]).join(", ");
    const sides = maps.length > 1 ? ["Left:", "Right:"] : ["Heatmaps show"];
    const sentences = maps.map((number, side) => `${sides[side]} ${all.maps[number].join(". ")}`);
    for (const place of document.querySelectorAll(".meaning"))
      place.textContent = sentences.join(" ");
    [...$("maps").children].forEach((button, place) => {
      button.ariaPressed = String(place === (maps.length > 1 ? all.maps.length : maps[0]));
    });
  }

  // the next kind: each map alone, then all side by side
  function nextMaps() {
    const buttons = [...$("maps").children];
    const place = buttons.findIndex((button) => button.ariaPressed === "true");
    buttons[(place + 1) % buttons.length].click();
  }

  // --- cards

  function card(picture, place) {
    const box = frame(picture, `thumbnails/${picture.name}.jpg`, true);
    const open = element("button", { type: "button", className: "open" }, box);
    open.ariaLabel = `open ${described(picture)}`;
    open.onclick = () => view(place, wanted.label);
    const tags = element("ul", { className: "tags" });
    let kept = null; // the tag that was clicked
    for (const tag of ordered(picture).slice(0, SHOWN)) {
      const button = tagButton(tag, false);
      button.onmouseenter = button.onfocus = () => lay(box, picture, tag);
      button.onmouseleave = button.onblur = () => lay(box, picture, kept);
      button.onclick = () => {
        kept = kept === tag ? null : tag;
        for (const other of tags.querySelectorAll(".tag"))
          other.ariaPressed = String(other === button && kept !== null);
        lay(box, picture, kept);
      };
      tags.append(element("li", {}, button));
    }
    const left = picture.tags.length - SHOWN;
    const note = left > 0 ? `and ${left} more` : picture.tags.length ? "" : NONE;
    if (note) tags.append(element("li", { className: "none", textContent: note }));
    const name = picture.path.split("/").pop();
    const path = element("p", { className: "path", title: picture.path, textContent: name });
    return element("li", {}, open, path, tags);
  }

  // those that pass the filters first, so that they are seen where there are many
  function ordered(picture) {
    return [...picture.tags.filter(passes), ...picture.tags.filter((tag) => !passes(tag))];
  }

  const near = (entries) => { if (entries.some((entry) => entry.isIntersecting)) more(); };
  const nearEnd = new IntersectionObserver(near, { rootMargin: "1500px" });

  function more() {
    const from = $("cards").children.length;
    const next = shown.slice(from, from + MORE);
    $("cards").append(...next.map((picture, place) => card(picture, from + place)));
    $("end").hidden = from + next.length === shown.length;
    // observed again, or a sentinel that is still near would not be reported again
    nearEnd.unobserve($("end"));
    nearEnd.observe($("end"));
  }

  // --- the viewer

  function view(place, label) {
    current = place;
    const picture = shown[current];
    const kept = (tag) => tag[0] === chosen && passes(tag);
    if (label >= 0) chosen = label;
    else if (!picture.tags.some(kept)) chosen = ordered(picture)[0]?.[0] ?? -1;
    const box = frame(picture, `images/${picture.name}.jpg`, false);
    box.id = "viewer-frame";
    $("viewer-frame").replaceWith(box);
    $("viewer-path").textContent = picture.path;
    $("position").textContent = `${current + 1} of ${shown.length}`;
    $("previous").disabled = current === 0;
    $("next").disabled = current === shown.length - 1;
    const buttons = picture.tags.map((tag) => {
      const button = tagButton(tag, true);
      button.onmouseenter = () => lay(box, picture, tag);
      button.onmouseleave = look;
      button.onclick = () => {
        bare = chosen === tag[0] && !bare;
        chosen = tag[0];
        look();
      };
      return element("li", {}, button);
    });
    const none = element("li", { className: "none", textContent: NONE });
    $("viewer-tags").replaceChildren(...(buttons.length ? buttons : [none]));
    if (!$("viewer").open) $("viewer").showModal();
    look();
  }

  // show the heatmap of the chosen label
  function look() {
    const picture = shown[current];
    const place = picture.tags.findIndex((tag) => tag[0] === chosen);
    lay($("viewer-frame"), picture, bare ? null : picture.tags[place]);
    [...$("viewer-tags").querySelectorAll(".tag")].forEach((button, index) => {
      button.ariaPressed = String(index === place && !bare);
      if (index === place) button.scrollIntoView({ block: "nearest" });
    });
  }

  function turn(steps) {
    const place = current + steps;
    if (place >= 0 && place < shown.length) view(place, -1);
  }

  function choose(steps) {
    const tags = shown[current].tags;
    const place = tags.findIndex((tag) => tag[0] === chosen) + steps;
    if (place < 0 || place >= tags.length) return;
    chosen = tags[place][0];
    bare = false;
    look();
  }

  const keys = {
    ArrowRight: () => turn(1),
    ArrowLeft: () => turn(-1),
    ArrowDown: () => choose(1),
    ArrowUp: () => choose(-1),
    Home: () => turn(-current),
    End: () => turn(shown.length - 1 - current),
    h: () => { bare = !bare; look(); },
    m: () => { nextMaps(); view(current, chosen); },
  };

  // arrows walk through the cards too, row by row where they stand below each other
  function walk(event) {
    const opens = [...$("cards").querySelectorAll(".open")];
    const from = opens.indexOf(document.activeElement);
    if (from < 0) return;
    const columns = opens.filter((open) => open.offsetTop === opens[0].offsetTop).length;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    if (!steps) return;
    event.preventDefault();
    if (from + steps >= opens.length) more();
    $("cards").querySelectorAll(".open")[from + steps]?.focus();
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (!$("viewer").open) return walk(event);
    const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  $("previous").onclick = () => turn(-1);
  $("next").onclick = () => turn(1);
  $("close").onclick = () => $("viewer").close();
  $("viewer").onclick = (event) => { if (event.target === $("viewer")) $("viewer").close(); };
  $("viewer").onclose = () => {
    while ($("cards").children.length <= current) more();
    $("cards").children[current].querySelector(".open").focus();
  };
  $("label").onchange = () => { wanted.label = Number($("label").value); filter(); };
  $("order").onchange = () => { wanted.order = $("order").value; filter(); };

  const scale = new ImageData(256, 1);
  for (let level = 0; level < 256; level++)
    scale.data.set([...colors.subarray(3 * level, 3 * level + 3), 255], 4 * level);
  $("scale").getContext("2d").putImageData(scale, 0, 0);
  fillMaps();
  fillFilters();
  filter();
})();
