// Opened from the disk, no page may read another: results without excerpts.
if (location.protocol === "file:") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}

// The keyboard reaches what is wider than its box. The theme sees to code, when
// the window changes its size; an unfolded solution may bring more of it.
addEventListener("toggle", () => dispatchEvent(new Event("resize")), true);
for (const event of ["load", "resize"]) {
  addEventListener(event, () => {
    const boxes = ".pst-scrollable-table-container, .text_html > div";
    for (const box of document.querySelectorAll(boxes)) {
      box.tabIndex = box.scrollWidth > box.clientWidth ? 0 : -1;
    }
  });
}

// Paper is white: a dark page is printed in the colours of the light one.
let theme;
addEventListener("beforeprint", () => {
  ({theme} = document.documentElement.dataset);
  document.documentElement.dataset.theme = "light";
});
addEventListener("afterprint", () => {
  document.documentElement.dataset.theme = theme;
});
