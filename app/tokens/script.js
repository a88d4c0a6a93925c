// Tokens page: a chosen token's alternatives, and arrow keys from token to token. Texts are set as text, never as markup.
(() => {
  const percent = (logprob) => {
    const p = 100 * Math.exp(logprob);
    return p >= 0.1 || p === 0 ? `${p.toFixed(1)} %` : p >= 0.0001 ? `${p.toFixed(4)} %` : `${p.toExponential(1)} %`;
  };
  const element = (tag, text, name) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (name) made.className = name;
    return made;
  };
  const row = (cells) => {
    const made = element("tr");
    cells.forEach((cell) => made.append(element("td", cell)));
    return made;
  };

  const show = (button) => {
    const scored = button.closest(".scored");
    const token = JSON.parse(button.dataset.token);
    const detail = scored.querySelector(".token-detail");
    scored.querySelectorAll('[aria-current="true"]').forEach((one) => one.removeAttribute("aria-current"));
    button.setAttribute("aria-current", "true");
    const chosen = token.logprob === null ? "no probability" : `${percent(token.logprob)}, log ${token.logprob.toFixed(3)}`;
    const title = element("p", `Token ${token.place}: `);
    title.append(element("strong", token.name), `, id ${token.id}, ${chosen}`);
    detail.replaceChildren(title);
    if (!token.top.length) return;
    const table = element("table");
    const head = element("tr");
    ["Alternative", "Id", "Probability", "Log"].forEach((name) => head.append(element("th", name)));
    table.append(head);
    token.top.forEach(([name, id, logprob]) => {
      const made = row([name, id, percent(logprob), logprob.toFixed(3)]);
      if (id === token.id) made.className = "chosen";
      table.append(made);
    });
    if (token.logprob !== null && !token.top.some(([, id]) => id === token.id)) {
      const made = row([token.name, token.id, percent(token.logprob), token.logprob.toFixed(3)]);
      made.className = "chosen";
      table.append(made);
    }
    detail.append(table);
  };

  const tokenOf = (event) => (event.target instanceof Element ? event.target.closest("#tokens .token") : null);
  document.addEventListener("click", (event) => {
    const button = tokenOf(event);
    if (button) button.focus();
  });
  document.addEventListener("focusin", (event) => {
    const button = tokenOf(event);
    if (!button) return;
    button.parentElement.querySelectorAll(".token").forEach((one) => (one.tabIndex = one === button ? 0 : -1));
    show(button);
  });
  document.addEventListener("keydown", (event) => {
    const button = tokenOf(event);
    if (!button) return;
    const all = [...button.closest(".scored").querySelectorAll(".token")];
    const place = all.indexOf(button);
    const next = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: all.length - 1 }[event.key];
    if (next === undefined || !all[next]) return;
    event.preventDefault();
    all[next].focus();
  });
})();
