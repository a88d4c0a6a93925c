// What Gradio's chatbot leaves to assistive technology: a list without list items, and text boxes without a name.
new MutationObserver(() => {
  for (const list of document.querySelectorAll('.examples[role="list"]')) list.setAttribute("role", "group");
  for (const box of document.querySelectorAll(".edit-textarea:not([aria-label])")) {
    box.setAttribute("aria-label", "Edited message");
  }
}).observe(document, { childList: true, subtree: true });
