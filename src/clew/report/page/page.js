"use strict";
// What the page does beyond what HTML does: a cursor in charts that reads the curves, by pointer and by arrow keys; and
// links to a request open it. Texts are put in as text only.
(() => {
  const make = (parent, name, text) => {
    const element = parent.appendChild(document.createElement(name));
    if (text !== undefined) element.textContent = text;
    return element;
  };

  const three = (value) => (value < 9.995 ? value.toFixed(2) : value < 99.95 ? value.toFixed(1) : value.toFixed(0));
  const formatDuration = (ns) => {
    if (ns < 1e3) return `${Math.round(ns)} ns`;
    if (ns < 999500) return `${three(ns / 1e3)} µs`;
    if (ns < 999.5e6) return `${three(ns / 1e6)} ms`;
    return `${three(ns / 1e9)} s`;
  };

  // A curve begins with M, then has H across and V up for each of its steps, in thousandths of the chart.
  const stepsOf = (path) => {
    const steps = [];
    for (const [, across, up] of path.getAttribute("d").matchAll(/H([\d.]+)V([\d.]+)/g)) {
      steps.push([Number(across) / 1000, 1 - Number(up) / 1000]);
    }
    return steps;
  };
  const shareAt = (steps, across) => {
    let share = 0;
    for (const [at, reached] of steps) {
      if (at > across) break;
      share = reached;
    }
    return share;
  };

  for (const plot of document.querySelectorAll(".plot.curves")) {
    const svg = plot.querySelector("svg");
    const cursor = svg.querySelector(".cursor");
    const low = Number(svg.dataset.low);
    const high = Number(svg.dataset.high);
    const isLog = svg.hasAttribute("data-log");
    const curves = [...svg.querySelectorAll("path.curve")].map((path) => ({
      label: path.dataset.label,
      color: [...path.classList].find((name) => /^c\d$/.test(name)),
      steps: stepsOf(path),
    }));
    let tip = null;
    let position = 0.5;

    const show = (across) => {
      position = Math.min(Math.max(across, 0), 1);
      const duration = isLog ? low * (high / low) ** position : low + position * (high - low);
      if (!tip) {
        tip = make(plot, "div");
        tip.className = "tip";
      }
      tip.replaceChildren();
      make(tip, "strong", `within ${formatDuration(duration)}`);
      for (const curve of curves) {
        const line = make(tip, "div");
        line.className = curve.color;
        make(line, "i");
        make(line, "span", curve.label);
        make(line, "b", `${(100 * shareAt(curve.steps, position)).toFixed(1)} %`);
      }
      for (const end of ["x1", "x2"]) cursor.setAttribute(end, `${100 * position}%`);
      cursor.style.visibility = "visible";
      const room = plot.clientWidth;
      const left = position * room;
      tip.style.left = `${left + 14 + tip.offsetWidth > room ? Math.max(left - 14 - tip.offsetWidth, -40) : left + 14}px`;
    };
    const hide = () => {
      if (tip) tip.remove();
      tip = null;
      cursor.style.visibility = "hidden";
    };

    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      show((event.clientX - box.left) / box.width);
    });
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("blur", hide);
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -0.02, ArrowRight: 0.02 }[event.key];
      if (event.key === "Escape") hide();
      if (step === undefined) return;
      event.preventDefault();
      show(position + step);
    });
  }

  const openTarget = () => {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    if (target instanceof HTMLDetailsElement) target.open = true;
  };
  addEventListener("hashchange", openTarget);
  openTarget();
})();
