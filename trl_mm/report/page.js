"use strict";
// The same for all data: what it goes by stands in attributes, and it writes nothing but a count.
const fold = (text) => text.normalize("NFKC").toLowerCase().replace(/\s+/g, " ");
const ADMITS = {
  choice: (value, wanted) => value === wanted,
  least: (value, wanted) => value !== undefined && Number(value) >= Number(wanted),
  most: (value, wanted) => value !== undefined && Number(value) <= Number(wanted),
};
for (const browser of document.querySelectorAll(".browser")) {
  const bar = browser.querySelector(".filters");
  const cards = [...browser.querySelectorAll(".card")];
  const count = bar.querySelector("output");
  const search = bar.querySelector("input[type=search]");
  const inputs = [...bar.querySelectorAll("[data-kind]")];
  let texts;
  const apply = () => {
    const words = fold(search.value).trim();
    if (words) {
      texts ??= cards.map((card) =>
        fold([...card.querySelectorAll("h3, .prompt, dd")].map((part) => part.textContent).join("\n"))
      );
    }
    const set = inputs.filter((input) => input.value !== "");
    let shown = 0;
    cards.forEach((card, index) => {
      const admitted = set.every((input) => ADMITS[input.dataset.kind](card.dataset[input.dataset.filter], input.value));
      card.hidden = !admitted || (words !== "" && !texts[index].includes(words));
      shown += !card.hidden;
    });
    count.textContent = `${shown} of ${cards.length}`;
  };
  bar.addEventListener("input", apply);
  bar.querySelector("button").addEventListener("click", () => {
    for (const input of [search, ...inputs]) input.value = "";
    apply();
  });
  bar.hidden = false;
  apply();  // a reloaded page comes with the filters of before
}
