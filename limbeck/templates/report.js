// Charts are drawn before the page has its final columns, and browsers lay paper out only after `beforeprint`.
const charts = () => document.querySelectorAll(".js-plotly-plot");
const fit = () => charts().forEach((chart) => Plotly.relayout(chart, { width: null, autosize: true }));
const print = () => charts().forEach((chart) => Plotly.relayout(chart, { width: 340 }));
addEventListener("load", fit);
addEventListener("beforeprint", print);
addEventListener("afterprint", fit);
