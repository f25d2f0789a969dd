// Swaps a chart's picture for a live one when a reader points at, touches or focuses it.
(() => {
  const folder = new URL(".", document.currentScript.src);
  let loading;
  const vega = () =>
    (loading ??= new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = new URL("vega.js", folder);
      script.onload = done;
      script.onerror = failed;
      document.head.append(script);
    }));
  const enliven = async (figure) => {
    await vega();
    const spec = JSON.parse(figure.querySelector("script").textContent);
    const pictures = [...figure.querySelectorAll(".static svg")];
    // As wide as the picture that it takes the place of, and scaled as that is, so that nothing moves.
    spec.width = pictures.find((picture) => picture.getBoundingClientRect().width).viewBox.baseVal.width;
    if (spec.config?.legend && spec.width < Number(figure.dataset.phone)) spec.config.legend.columns = 1;
    await vegaEmbed(figure.querySelector(".live"), spec, { actions: false, renderer: "svg" });
    figure.dataset.live = "yes";
  };
  for (const figure of document.querySelectorAll(".lmrel-chart")) {
    let started = false;
    const start = () => {
      if (!started) enliven(figure).catch(() => delete figure.dataset.live);
      started = true;
    };
    for (const event of ["pointerenter", "touchstart", "focus"]) {
      figure.addEventListener(event, start, { passive: true });
    }
  }
})();
