// @ts-check
/** The description of the API, /api/openapi.json, for people. */

import { Problem, get } from "./api.js";
import { themeSwitch } from "./colours.js";
import { byId, el } from "./dom.js";
import { fields, named, typeText } from "./schema.js";

/** @typedef {import("./schema.js").Schema} Schema */
/** @typedef {{$ref?: string, name: string, in: string, required?: boolean, description?: string, schema?: Schema}} Parameter */
/** @typedef {{$ref?: string, description?: string, content?: Record<string, {schema?: Schema}>, headers?: Record<string, unknown>}} Response */
/** @typedef {{$ref?: string, description?: string, required?: boolean, content?: Record<string, {schema?: Schema}>}} Body */
/** @typedef {{summary?: string, description?: string, parameters?: Parameter[], requestBody?: Body, responses?: Record<string, Response>}} Operation */
/** @typedef {{info: {title: string, summary?: string, description?: string, version: string}, paths: Record<string, Record<string, Operation> & {parameters?: Parameter[]}>, components?: Record<string, Record<string, any>>}} Description */

const METHODS = ["get", "post", "put", "patch", "delete", "head"];

/** @param {Description} api */
function show(api) {
  /** @param {string} ref "#/components/..." */
  const resolve = (ref) => {
    /** @type {any} */
    let at = api;
    for (const part of ref.replace(/^#\//, "").split("/")) at = at?.[decodeURIComponent(part)];
    return at;
  };
  /**
   * @template {{$ref?: string}} T
   * @param {T} part
   * @returns {T}
   */
  const whole = (part) => (part.$ref ? resolve(part.$ref) : part);

  byId("title", HTMLElement).textContent = `${api.info.title} ${api.info.version}`;
  byId("description", HTMLElement).textContent = api.info.description ?? api.info.summary ?? "";
  const contents = byId("contents", HTMLElement);
  const host = byId("operations", HTMLElement);
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const method of METHODS.filter((name) => methods[name])) {
      const operation = methods[method];
      const id = `${method}-${path.replace(/[^a-z]+/gi, "-").replace(/^-|-$/g, "")}`;
      const verb = () => el("span", { class: `method ${method}` }, method.toUpperCase());
      contents.append(el("li", {}, el("a", { href: `#${id}` }, `${method.toUpperCase()} ${path}`)));
      const parameters = [...(methods.parameters ?? []), ...(operation.parameters ?? [])].map(whole);
      const body = operation.requestBody && whole(operation.requestBody);
      host.append(
        el(
          "section",
          { id, "aria-labelledby": `${id}-title` },
          el("h2", { id: `${id}-title` }, verb(), el("code", {}, path)),
          el("p", {}, operation.description ?? operation.summary ?? ""),
          ...parametersOf(parameters),
          ...(body ? bodyOf(body) : []),
          ...answersOf(Object.entries(operation.responses ?? {}).map(([status, each]) => [status, whole(each)]), resolve),
          el("h3", {}, "Try"),
          scrolling("pre", el("code", {}, curl(method, path, parameters, body))),
        ),
      );
    }
  }
  const types = Object.entries(api.components?.schemas ?? {});
  if (types.length) {
    contents.append(el("li", {}, el("a", { href: "#types" }, "Types of answers")));
    host.append(el("section", { id: "types", "aria-labelledby": "types-title" }, el("h2", { id: "types-title" }, "Types of answers"), ...types.flatMap(([name, schema]) => typeOf(name, schema, resolve))));
  }
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

/**
 * A box that scrolls by itself, by keyboard as well, if its content is wider than the page.
 *
 * @param {"pre" | "div"} tag
 * @param {Node} content
 */
function scrolling(tag, content) {
  return el(tag, { class: tag === "div" ? "table" : null, tabindex: "0" }, content);
}

/**
 * @param {string[]} heads
 * @param {(Node | string)[][]} rows
 */
function table(heads, rows) {
  return scrolling(
    "div",
    el(
      "table",
      {},
      el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map((cell) => el("td", {}, cell))))),
    ),
  );
}

/** @param {string} text */
function code(text) {
  return el("code", {}, text);
}

/** @param {Schema | undefined} schema */
function typed(schema) {
  const name = named(schema);
  return name ? el("a", { href: `#type-${name}` }, typeText(schema)) : typeText(schema);
}

/**
 * @param {Schema | undefined} schema
 * @param {string} [description]
 */
function about(schema, description) {
  const parts = [description ?? schema?.description ?? ""];
  const standard = schema?.default;
  if (standard !== undefined && standard !== null && standard !== "") {
    parts.push(`default ${JSON.stringify(standard)}`);
  }
  return parts.filter(Boolean).join("; ");
}

/** @param {Parameter[]} parameters */
function parametersOf(parameters) {
  if (!parameters.length) return [];
  const rows = parameters.map(({ name, in: where, required, schema, description }) => [
    code(name),
    `${where}${required ? ", required" : ""}`,
    typeText(schema).replace(/ or null$/, ""), // left out
    about(schema, description),
  ]);
  return [el("h3", {}, "Parameters"), table(["Name", "In", "Type", "Meaning"], rows)];
}

/** @param {Body} body */
function bodyOf(body) {
  const rows = Object.entries(body.content ?? {}).map(([type, { schema }]) => [
    code(type),
    typed(schema),
    about(schema, body.description),
  ]);
  return [el("h3", {}, "Body"), table(["Content type", "Type", "Meaning"], rows)];
}

/**
 * @param {[string, Response][]} responses
 * @param {(ref: string) => Schema | undefined} resolve
 */
function answersOf(responses, resolve) {
  if (!responses.length) return [];
  /** @type {Node[]} */
  const inline = [];
  /** @type {Map<string, {statuses: string[], type: Node | string, said: string[]}>} */
  const rows = new Map(); // answers of one type are one row
  for (const [status, { content = {}, description = "" }] of responses) {
    const kinds = Object.entries(content);
    const [, { schema } = { schema: undefined }] = kinds.find(([, each]) => each.schema) ?? [];
    if (schema && !schema.$ref && fields(schema, resolve).length) inline.push(fieldsOf(schema, resolve));
    const names = kinds.map(([type]) => type).join(", ");
    const key = `${typeText(schema)} ${names}`;
    const row = rows.get(key) ?? { statuses: [], type: schema ? typed(schema) : names, said: [] };
    row.statuses.push(status);
    if (description && description !== "Successful Response") row.said.push(description);
    rows.set(key, row);
  }
  const cells = [...rows.values()].map(({ statuses, type, said }) => [
    code(statuses.join(", ")),
    type,
    said.join(", "),
  ]);
  return [el("h3", {}, "Answers"), table(["Status", "Type", "Meaning"], cells), ...inline];
}

/**
 * @param {Schema} schema
 * @param {(ref: string) => Schema | undefined} resolve
 */
function fieldsOf(schema, resolve) {
  const rows = fields(schema, resolve).map(({ name, schema: each }) => [code(name), typed(each), about(each)]);
  return table(["Field", "Type", "Meaning"], rows);
}

/**
 * @param {string} name
 * @param {Schema} schema
 * @param {(ref: string) => Schema | undefined} resolve
 */
function typeOf(name, schema, resolve) {
  const parts = [el("h3", { id: `type-${name}` }, code(name))];
  if (schema.description) parts.push(el("p", {}, schema.description));
  const made = fields(schema, resolve).length ? fieldsOf(schema, resolve) : el("p", {}, typeText(schema));
  return [...parts, made];
}

/**
 * A line for a shell, with 1 for every number.
 *
 * @param {string} method
 * @param {string} path
 * @param {Parameter[]} parameters
 * @param {Body | undefined} body
 */
function curl(method, path, parameters, body) {
  /** @param {Parameter} parameter */
  const example = ({ name, schema }) => (typeText(schema).startsWith("integer") ? "1" : name.toUpperCase());
  const wanted = parameters.filter(
    (each) => each.in === "query" && (each.required || (each.name === "id" && !body)),
  );
  const search = wanted.map((each) => `${each.name}=${example(each)}`).join("&");
  const filled = path.replace(/\{(\w+)\}/g, (_, name) => {
    const parameter = parameters.find((each) => each.name === name);
    return parameter ? example(parameter) : name;
  });
  const url = `${location.origin}${filled}${search && "?"}${search}`;
  const quoted = /[{}?&]/.test(url) ? `'${url}'` : url;
  if (body) return `curl -H 'Content-Type: application/octet-stream' --data-binary @image.jpg ${quoted}`;
  const answersBytes = /\/(thumbnail|preview|file)$/.test(path);
  const verb = method === "get" ? "" : `-X ${method.toUpperCase()} `;
  return `curl ${answersBytes ? "-o image.jpg " : ""}${verb}${quoted}`;
}

themeSwitch(byId("theme", HTMLButtonElement), byId("theme-label", HTMLElement));
try {
  show(await get("/api/openapi.json"));
} catch (error) {
  if (!(error instanceof Problem)) throw error;
  const trouble = byId("trouble", HTMLElement);
  trouble.textContent = error.message;
  trouble.hidden = false;
}
