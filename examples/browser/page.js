// The page: a number for each feature, one row of the table for each step, and a bar for each value of the state.

import { Session } from "./session.js";

const [fields, table, states, message] = ["fields", "outputs", "states", "message"].map((id) => document.getElementById(id));

function show(text) {
  message.textContent = text;
}

function bars(session) {
  states.replaceChildren();
  for (const [name, values] of Object.entries(session.peek())) {
    const largest = Math.max(1e-9, ...values.map(Math.abs));
    const row = document.createElement("p");
    row.append(`${name}, largest ${largest.toPrecision(3)} `);
    for (const value of values) {
      const bar = document.createElement("meter");
      Object.assign(bar, { min: -largest, max: largest, value, title: value.toPrecision(4) });
      row.append(bar);
    }
    states.append(row);
  }
}

async function main() {
  const session = await Session.open("model.onnx");
  window.session = session; // for the console
  for (let at = 0; at < session.features; at++) {
    const field = Object.assign(document.createElement("input"), { type: "number", step: "any", value: 0, required: true });
    field.setAttribute("aria-label", `feature ${at + 1}`);
    fields.append(field);
  }
  document.forms[0].addEventListener("submit", async (event) => {
    event.preventDefault();
    const x = [...fields.children].map((field) => field.valueAsNumber);
    try {
      const [y] = await session.push([x]);
      const row = table.insertRow(0);
      for (const text of [session.steps, x.join(", "), y.map((value) => value.toPrecision(5)).join(", ")]) {
        row.insertCell().textContent = text;
      }
      bars(session);
    } catch (error) {
      show(error.message);
    }
  });
  document.getElementById("reset").addEventListener("click", () => {
    session.reset();
    table.replaceChildren();
    bars(session);
  });
  bars(session);
  show("The model runs in this page. No input leaves it.");
}

main().catch((error) => show(error.message));
