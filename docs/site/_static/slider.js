// Every file at every commit. `window.SERIES` holds the steps, and of each file its versions, as lines of highlighted HTML.
(function () {
  "use strict";
  const root = document.getElementById("slider");
  if (!root || !window.SERIES) return;
  const { steps, versions } = window.SERIES;
  const find = (name) => root.querySelector("[data-" + name + "]");
  const range = find("range"), back = find("back"), forward = find("forward");
  const files = find("files"), code = find("code"), title = find("title"), words = find("words");
  let place = 0, file = "";

  function changedIn(step) {
    const before = step ? steps[step - 1].files : {};
    return Object.keys(steps[step].files).filter((name) => before[name] !== steps[step].files[name]);
  }

  function newLines(name) {
    const now = versions[name][steps[place].files[name]];
    const before = place ? steps[place - 1].files[name] : undefined;
    return before === undefined || before === steps[place].files[name] ? new Set() : new Set(now.added);
  }

  function showFiles() {
    const changed = changedIn(place);
    files.replaceChildren(...Object.keys(steps[place].files).map((name) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name;
      button.setAttribute("aria-pressed", String(name === file));
      if (changed.includes(name)) {
        button.className = "changed";
        button.title = "this commit changes it";
      }
      button.addEventListener("click", () => { file = name; show(false); });
      return button;
    }));
  }

  function showCode() {
    const added = newLines(file);
    code.replaceChildren(...versions[file][steps[place].files[file]].lines.map((html, index) => {
      const line = document.createElement("span");
      line.className = added.has(index) ? "line new" : "line";
      line.innerHTML = html || " ";  // made by Pygments when the site was built
      return line;
    }));
  }

  function show(follow) {
    const step = steps[place], changed = changedIn(place);
    if (follow && changed.length && !changed.includes(file)) file = changed[0];
    if (!(file in step.files)) file = Object.keys(step.files)[0];
    range.value = String(place);
    range.setAttribute("aria-valuetext", step.label + ": " + step.subject);
    back.disabled = place === 0;
    forward.disabled = place === steps.length - 1;
    title.textContent = step.label + "  " + step.subject;
    words.textContent = step.lesson + ", commit " + (place + 1) + " of " + steps.length;
    history.replaceState(null, "", "#" + step.label);
    showFiles();
    showCode();
  }

  function go(to) {
    place = Math.max(0, Math.min(steps.length - 1, to));
    show(true);
  }

  range.max = String(steps.length - 1);
  range.addEventListener("input", () => go(Number(range.value)));
  back.addEventListener("click", () => go(place - 1));
  forward.addEventListener("click", () => go(place + 1));
  const wished = steps.findIndex((step) => "#" + step.label === location.hash);
  go(Math.max(0, wished));
})();
