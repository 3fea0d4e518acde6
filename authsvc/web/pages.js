// What /login and /account share. The page has its words before this, in WORDS.
const PATIENCE = 20000;  // milliseconds: more than the service takes for its slowest answer
const language = /^zh\b/i.test(navigator.language) ? "zh" : "en";
const byId = id => document.getElementById(id);

function make(name, attributes, ...content) {
  const node = document.createElement(name);
  Object.entries(attributes).forEach(each => node.setAttribute(...each));
  node.append(...content);
  return node;
}

// What has no words here is said as it comes.
function words(text, ...values) {
  const key = text.replace(/^Parameter \w+ /, "").replace(/\d+/g, number => { values.push(number); return "#"; });
  return WORDS[language][key]?.replace(/#/g, () => values.shift()) ?? text;
}

// Without parameters a GET. Status 0: no answer, or none that can be read.
async function ask(path, parameters) {
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), PATIENCE);
  const headers = { "Content-Type": "application/json" };
  const post = parameters && { method: "POST", headers, body: JSON.stringify(parameters) };
  try {
    const answer = await fetch(`/api/auth${path}`, { signal: controller.signal, ...post });
    const data = (await answer.json()).data ?? {};
    return { status: answer.status, data, reason: data.reason ?? "" };
  } catch {
    return { status: 0, data: {}, reason: "No answer." };
  } finally {
    clearTimeout(timer);
  }
}

function duration(seconds) {
  const [hours, minutes, rest] = words("units").split(" ");
  const parts = [[Math.floor(seconds / 3600), hours], [Math.floor(seconds / 60) % 60, minutes], [seconds % 60, rest]];
  return parts.slice(parts.findIndex(([number]) => number)).map(part => part.join("\u00a0")).join(" ");
}

// Digits of any keyboard, in any grouping; recovery codes in groups of four.
function tidied(code) {
  const plain = code.normalize("NFKC").replace(/[\s-]/g, "").toLowerCase();
  return /^\d*$/.test(plain) ? plain : plain.match(/.{1,4}/g).join("-");
}

// A form that asks the service, once at a time. `done` returns true where the page is left; `refused`, where it has dealt
// with the refusal itself. Returns what takes back what the form has said.
function serve(form, path, done, refused = () => false) {
  const button = form.querySelector("[type=submit]"), message = form.querySelector(".message");
  let countdown;

  function enable(on) {
    on ? button.removeAttribute("aria-disabled") : button.setAttribute("aria-disabled", "true");
  }

  function clear() {
    clearInterval(countdown);
    if (!form.hasAttribute("aria-busy")) enable(true);
    form.querySelectorAll(".error").forEach(node => node.replaceChildren());
    form.querySelectorAll("[aria-invalid]").forEach(node => node.removeAttribute("aria-invalid"));
  }

  // At the field it is about, and the cursor with it.
  function complain(reason, field) {
    if (!field) return message.replaceChildren(words(reason));
    byId(field.getAttribute("aria-describedby").split(" ").pop()).replaceChildren(words(reason));
    field.setAttribute("aria-invalid", "true");
    field.focus();
    field.select();
  }

  function wait(reason) {
    const end = Date.now() + reason.match(/\d+/) * 1000, [before, after] = words(reason, "#").split("#");
    const timer = make("span", { role: "timer" });  // read out once, with the message; not every second
    function tick() {
      const left = Math.ceil((end - Date.now()) / 1000);
      timer.textContent = duration(left);
      if (left > 0) return;
      clear();
      message.replaceChildren(words("again"));
    }
    tick();
    enable(false);
    message.replaceChildren(before, timer, after);
    countdown = setInterval(tick, 250);
  }

  form.addEventListener("submit", async event => {
    event.preventDefault();
    if (button.hasAttribute("aria-disabled")) return;
    clear();
    const empty = Array.from(form.querySelectorAll("input")).find(input => input.offsetParent && !input.value.trim());
    if (empty) return complain("is missing.", empty);
    form.querySelectorAll(".secret input").forEach(input => { input.type = "password"; });
    const parameters = Object.fromEntries(new FormData(form));
    if (parameters.otp_code) parameters.otp_code = tidied(parameters.otp_code);
    form.setAttribute("aria-busy", "true");
    enable(false);
    const answer = await ask(typeof path === "string" ? path : path(), parameters), { status, reason } = answer;
    if (status === 200 && await done(answer)) return;
    form.removeAttribute("aria-busy");
    enable(true);
    if (status === 200 || refused(answer)) return;
    if (status === 429) return wait(reason);
    const [, named] = reason.match(/^Parameter (\w+) /) ?? [];
    complain(reason, form.elements[named ?? (/code/.test(reason) ? "otp_code" : /password/.test(reason) ? "password" : "")]);
  });
  return clear;
}

document.documentElement.lang = { en: "en", zh: "zh-Hans" }[language];
document.title = words("title");
document.querySelectorAll("[data-words]").forEach(node => { node.textContent = words(node.dataset.words); });
document.querySelectorAll(".secret input").forEach(input => {
  const toggle = make("button", { type: "button", class: "link" }), caps = make("span", { class: "caps", role: "status" });
  input.after(toggle, caps);
  input.spellcheck = false;  // or else what is shown may go to a dictionary service
  input.autocapitalize = "none";
  function label() {
    const verb = input.type === "password" ? "show" : "hide";
    toggle.textContent = words(verb);
    toggle.setAttribute("aria-label", words(`${verb} password`));
  }
  toggle.addEventListener("click", () => { input.type = input.type === "password" ? "text" : "password"; label(); });
  new MutationObserver(label).observe(input, { attributeFilter: ["type"] });
  label();
  const look = event => { caps.textContent = event.getModifierState?.("CapsLock") ? words("caps") : ""; };
  ["keydown", "keyup", "click"].forEach(type => input.addEventListener(type, look));
  input.addEventListener("blur", () => { caps.textContent = ""; });
});
// A page from the back/forward cache may show what was true then.
addEventListener("pageshow", event => { if (event.persisted) location.reload(); });
