// The chatbot's copy buttons copy what is shown. What stands on the clipboard should be what was written: without
// the lines of facts, which begin with an invisible separator, and without the escapes in tags.
if (navigator.clipboard) {
  const write = navigator.clipboard.writeText.bind(navigator.clipboard);
  navigator.clipboard.writeText = (text) =>
    write(
      text
        .replace(/\n*^(assistant: )?\u2063.*$/gm, "")
        .replaceAll("&LT;", "<")
        .replaceAll("&AMP;", "&")
        .replaceAll("<\u2060", "<"),
    );
}
