"use strict";
// Shows /openapi.json. Everything from the document becomes text, never markup: modules write parts of it.

const METHODS = ["get", "post", "put", "patch", "delete"];

/** An element; `content` is text or a list of texts and elements. */
function make(name, properties, ...content) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...content.flat().filter((part) => part !== undefined && part !== ""));
  return element;
}

/** Paragraphs, lists, `code` and **strong**: all that our texts use. */
function prose(text) {
  return text.trim().split(/\n{2,}/).map((block) => {
    if (!block.startsWith("- ")) return make("p", {}, inline(block));
    const items = block.split(/\n(?=- )/);
    return make("ul", {}, items.map((item) => make("li", {}, inline(item.slice(2)))));
  });
}

function inline(text) {
  return text.replace(/\s*\n\s*/g, " ").split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part) => {
    if (part.startsWith("`")) return make("code", {}, part.slice(1, -1));
    if (part.startsWith("**")) return make("strong", {}, part.slice(2, -2));
    return part;
  });
}

/** What `#/components/...` leads to. */
function resolve(api, value) {
  if (!value || !value.$ref) return value;
  return value.$ref.slice(2).split("/").reduce((at, key) => at && at[key], api) || {};
}

// ---- schemas --------------------------------------------------------------------------------------------------------

const nameOf = (schema) => schema.$ref.split("/").pop();
const link = (schema) => make("a", { href: `#schema-${nameOf(schema)}` }, nameOf(schema));

/** A schema in a few words: a type, a link, limits. */
function words(schema) {
  if (schema === true || schema === undefined) return ["anything"];
  if (schema.$ref) return [link(schema)];
  const choices = schema.oneOf || schema.anyOf;
  if (choices) return choices.flatMap((choice, index) => [index ? " or " : "", ...words(choice)]);
  if ("const" in schema) return [make("code", {}, JSON.stringify(schema.const))];
  if (schema.enum) {
    return schema.enum.flatMap((value, index) => [index ? " | " : "", make("code", {}, JSON.stringify(value))]);
  }
  const type = [schema.type || "anything"].flat().join(" or ");
  if (schema.items) return [`${type} of `, ...words(schema.items), limits(schema)];
  return [schema.format ? `${type}, ${schema.format}` : type, limits(schema)];
}

function limits(schema) {
  const known = [
    ["minimum", "at least", ""], ["maximum", "at most", ""], ["minLength", "at least", " long"],
    ["maxLength", "at most", " long"], ["minItems", "at least", " items"], ["maxItems", "at most", " items"],
    ["pattern", "like", ""],
  ];
  // Limits of the number type itself tell nobody anything.
  const tells = (value) => typeof value !== "number" || Math.abs(value) < Number.MAX_SAFE_INTEGER;
  const found = known.filter(([name]) => name in schema && tells(schema[name]));
  return found.map(([name, text, unit]) => `, ${text} ${schema[name]}${unit}`).join("");
}

/** The members of an object, or of the objects of a list. */
function tree(schema) {
  if (!schema || schema.$ref) return [];
  const choices = schema.oneOf || schema.anyOf;
  if (choices) return choices.flatMap(tree);
  if (schema.items) return tree(schema.items);
  const required = schema.required || [];
  const members = Object.entries(schema.properties || {}).map(([name, member]) => make("li", {},
    make("code", {}, name), " ",
    required.includes(name) ? make("span", { className: "must" }, "required ") : "",
    make("span", { className: "soft" }, words(member)), defaultOf(member),
    member.description && !member.$ref ? [": ", ...inline(member.description)] : "",
    tree(member)));
  if (schema.additionalProperties && schema.additionalProperties !== true) {
    members.push(make("li", {}, make("span", { className: "soft" }, "any name: ", words(schema.additionalProperties)),
      tree(schema.additionalProperties)));
  }
  return members.length ? [make("ul", { className: "tree" }, members)] : [];
}

const defaultOf = (schema) =>
  schema && "default" in schema ? make("span", { className: "soft" }, `, else ${JSON.stringify(schema.default)}`) : "";

/** A value that fits a schema, to be changed by whoever copies it. */
function sample(api, schema, depth = 0) {
  const known = resolve(api, schema) || {};
  if (known.examples) return known.examples[0];
  if ("default" in known) return known.default;
  if ("const" in known) return known.const;
  if (known.enum) return known.enum[0];
  const choice = (known.oneOf || known.anyOf || [])[0];
  if (choice) return sample(api, choice, depth);
  const type = [known.type].flat()[0];
  if (type === "object" && depth < 4) {
    const names = Object.keys(known.properties || {}).filter((name) => (known.required || []).includes(name));
    return Object.fromEntries(names.map((name) => [name, sample(api, known.properties[name], depth + 1)]));
  }
  if (type === "array") return depth < 4 && known.items ? [sample(api, known.items, depth + 1)] : [];
  if (type === "integer" || type === "number") return Math.max(known.minimum > -1000 ? known.minimum : 1, 0);
  if (type === "boolean") return true;
  if (known.format === "date-time") return "2026-01-01T00:00:00Z";
  if (known.format === "uuid") return "00000000-0000-4000-8000-000000000000";
  return type === "object" ? {} : "text";
}

// ---- operations -----------------------------------------------------------------------------------------------------

/** A text for a POSIX shell. */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function curl(api, path, method, operation) {
  const parameters = (operation.parameters || []).map((parameter) => resolve(api, parameter));
  const filled = path.replace(/\{([^}]+)\}/g, "<$1>");
  const query = parameters.filter((parameter) => parameter.in === "query" && parameter.required)
    .map((parameter) => `${parameter.name}=<${parameter.name}>`).join("&");
  const address = new URL(".", document.baseURI).href.replace(/\/$/, "") + filled + (query ? `?${query}` : "");
  const parts = ["curl -i"];
  if (method !== "get") parts.push(`-X ${method.toUpperCase()}`);
  const [media, body] = Object.entries(operation.requestBody?.content || {})[0] || [];
  if (media) {
    parts.push(`-H ${quoted(`Content-Type: ${media}`)}`);
    const value = sample(api, body.schema || {});
    parts.push(`-d ${quoted(typeof value === "string" ? value : JSON.stringify(value))}`);
  }
  return [...parts, quoted(address)].join(" ");
}

function copyable(line) {
  const text = make("pre", { tabIndex: 0 }, make("code", {}, line));
  const button = make("button", { type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(line);
      button.textContent = "Copied";
    } catch {
      // Without TLS a page has no clipboard: select the line, so that one key copies it.
      getSelection().selectAllChildren(text);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  return make("div", { className: "copy" }, text, button);
}

function contents(content) {
  return Object.entries(content || {}).flatMap(([media, form]) => [
    make("div", {}, make("code", {}, media), form.schema ? [": ", ...words(form.schema)] : ""),
    ...tree(form.schema),
  ]);
}

function showParameters(api, operation) {
  const parameters = (operation.parameters || []).map((parameter) => resolve(api, parameter));
  if (!parameters.length) return [];
  return [make("h3", {}, "Parameters"), make("dl", {}, parameters.flatMap((parameter) => [
    make("dt", {}, make("code", {}, parameter.name), ` in the ${parameter.in} `,
      parameter.required ? make("span", { className: "must" }, "required ") : "",
      make("span", { className: "soft" }, words(parameter.schema)), defaultOf(parameter.schema)),
    make("dd", {}, inline(parameter.description || "")),
  ]))];
}

function showAnswers(api, operation) {
  const answers = Object.entries(operation.responses || {});
  const own = answers.filter(([, answer]) => !answer.$ref);
  const shared = answers.filter(([, answer]) => answer.$ref);
  const show = ([status, answer]) => [
    make("dt", {}, make("strong", {}, status), " ", inline(answer.description || "")),
    make("dd", {}, Object.entries(answer.headers || {}).map(([name, header]) =>
      make("div", {}, make("code", {}, `${name}:`), " ", inline(resolve(api, header).description || ""))),
    contents(answer.content)),
  ];
  const found = [make("h3", {}, "Answers"), make("dl", {}, own.flatMap(show))];
  if (shared.length) {
    const text = shared.map(([status, answer]) => `${status} ${resolve(api, answer).description}`).join("; ");
    found.push(make("p", { className: "soft" }, "As everywhere: ", inline(text), "."));
  }
  return found;
}

function showOperation(api, path, method, operation) {
  const title = make("summary", {}, make("span", { className: `method ${method}` }, method.toUpperCase()), " ",
    make("code", {}, path), make("span", { className: "soft" }, inline(operation.summary || "")));
  const details = make("details", { className: "operation", id: operation.operationId || `${method} ${path}` }, title);
  details.dataset.words = `${method} ${path} ${operation.summary} ${operation.description || ""}`.toLowerCase();
  // Made when it is first seen: there are many.
  details.addEventListener("toggle", () => {
    if (details.childElementCount > 1) return;
    const body = operation.requestBody && resolve(api, operation.requestBody);
    details.append(make("div", { className: "inside" },
      operation.description ? prose(operation.description) : "",
      showParameters(api, operation),
      body ? [make("h3", {}, body.required ? "Body (required)" : "Body"), ...contents(body.content)] : "",
      showAnswers(api, operation),
      make("h3", {}, "Try it"), copyable(curl(api, path, method, operation))));
  });
  return details;
}

function showTag(api, tag, operations) {
  const section = make("section", { id: `tag-${tag.name}` }, make("h2", {}, tag.name),
    tag.description ? prose(tag.description) : "");
  section.append(...operations.map(([path, method, operation]) => showOperation(api, path, method, operation)));
  return section;
}

function showSchemas(api) {
  const schemas = Object.entries(api.components?.schemas || {});
  return make("section", { id: "tag-schemas" }, make("h2", {}, "schemas"), schemas.map(([name, schema]) =>
    make("details", { className: "schema", id: `schema-${name}` },
      make("summary", {}, make("code", {}, name)),
      make("div", { className: "inside" }, make("p", {}, inline(schema.description || "")),
        make("p", { className: "soft" }, words(schema)), tree(schema)))));
}

// ---- the page -------------------------------------------------------------------------------------------------------

const byId = (id) => document.getElementById(id);

function show(api) {
  byId("version").textContent = api.info.version;
  byId("introduction").append(...prose(api.info.description || ""));
  const operations = Object.entries(api.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => [path, method, item[method]]));
  const tags = api.tags.map((tag) => [tag, operations.filter(([, , operation]) => operation.tags[0] === tag.name)]);
  byId("operations").append(...tags.map(([tag, own]) => showTag(api, tag, own)), showSchemas(api));
  const entry = (name) => make("li", {}, make("a", { href: `#tag-${name}` }, name));
  byId("contents").append(make("ul", {}, tags.map(([tag]) => entry(tag.name)), entry("schemas")));
  byId("tools").hidden = false;
  byId("status").textContent = "";
}

function filter() {
  const wanted = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const details of document.querySelectorAll("details.operation")) {
    details.hidden = !wanted.every((word) => details.dataset.words.includes(word));
  }
  for (const section of document.querySelectorAll("main > section")) {
    const all = [...section.querySelectorAll("details")];
    section.hidden = wanted.length > 0 && all.every((details) => details.hidden || details.className === "schema");
  }
}

/** Opens what the address points to. */
function unfoldTarget() {
  const target = byId(decodeURIComponent(location.hash.slice(1)));
  if (target?.tagName === "DETAILS") {
    target.open = true;
    target.scrollIntoView();
  }
}

function setAll(open) {
  for (const details of document.querySelectorAll("details.operation:not([hidden])")) details.open = open;
}

async function start() {
  byId("status").textContent = "Reading the description…";
  try {
    const answer = await fetch("openapi.json");
    if (!answer.ok) throw new Error(`it answers ${answer.status}`);
    show(await answer.json());
  } catch (error) {
    byId("status").textContent = `/openapi.json cannot be shown: ${error.message}`;
    return;
  }
  byId("tools").addEventListener("submit", (event) => event.preventDefault());
  byId("filter").addEventListener("input", filter);
  byId("unfold").addEventListener("click", () => setAll(true));
  byId("fold").addEventListener("click", () => setAll(false));
  addEventListener("hashchange", unfoldTarget);
  unfoldTarget();
}

start();
