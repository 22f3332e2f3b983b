// Each copy button says what it copies: they all look alike, and are read one after another.
window.addEventListener("load", function () {
  "use strict";
  for (const button of document.querySelectorAll("button.copybtn")) {
    const block = button.closest(".literal-block-wrapper");
    const caption = block && block.querySelector(".caption-text");
    button.setAttribute("aria-label", "Copy " + (caption ? caption.textContent.trim() : "this text"));
  }
});
