// @ts-check
/** Types of JSON Schema in words, as far as a description of an API uses them. */

/**
 * @typedef {object} Schema
 * @property {string} [$ref]
 * @property {string | string[]} [type]
 * @property {string} [format]
 * @property {string} [description]
 * @property {unknown} [default]
 * @property {unknown} [const]
 * @property {unknown[]} [enum]
 * @property {number} [minimum]
 * @property {number} [maximum]
 * @property {Schema} [items]
 * @property {Schema[]} [prefixItems]
 * @property {Record<string, Schema>} [properties]
 * @property {string[]} [required]
 * @property {Schema[]} [anyOf]
 * @property {Schema[]} [oneOf]
 * @property {Schema[]} [allOf]
 * @property {Schema | boolean} [additionalProperties]
 */

/** @param {string} ref "#/components/schemas/NAME" */
export function nameOf(ref) {
  return decodeURIComponent(ref.slice(ref.lastIndexOf("/") + 1));
}

/**
 * The name of the type that it is, holds or may be.
 *
 * @param {Schema | undefined} schema
 * @returns {string | null}
 */
export function named(schema) {
  if (!schema) return null;
  if (schema.$ref) return nameOf(schema.$ref);
  for (const part of [schema.items, ...(schema.anyOf ?? [])]) {
    const name = named(part);
    if (name) return name;
  }
  return null;
}

/**
 * @param {Schema | undefined} schema
 * @returns {string}
 */
export function typeText(schema) {
  if (!schema) return "anything";
  if (schema.$ref) return nameOf(schema.$ref);
  const either = schema.anyOf ?? schema.oneOf;
  if (either) return [...new Set(either.map(typeText))].join(" or ");
  if (schema.allOf) return schema.allOf.map(typeText).join(" and ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  if ("const" in schema) return JSON.stringify(schema.const);
  const types = [schema.type ?? (schema.properties ? "object" : "anything")].flat();
  return types.map((type) => (type === "array" ? listText(schema) : ranged(type, schema))).join(" or ");
}

/** @param {Schema} schema */
function listText({ items, prefixItems }) {
  if (prefixItems) return `[${prefixItems.map(typeText).join(", ")}]`;
  return `list of ${typeText(items)}`;
}

/**
 * @param {string} type
 * @param {Schema} schema
 */
function ranged(type, { minimum, maximum, format }) {
  const text = type === "string" && format === "binary" ? "bytes" : type;
  if (type !== "integer" && type !== "number") return text;
  // the largest numbers that JSON and databases hold are no news
  if (maximum !== undefined && maximum > 2 ** 53) maximum = undefined;
  if (minimum !== undefined && maximum !== undefined) return `${text}, ${minimum} to ${maximum}`;
  if (minimum !== undefined) return `${text} from ${minimum}`;
  return maximum !== undefined ? `${text} to ${maximum}` : text;
}

/**
 * The fields of an object, those of the parts that it is put together from included.
 *
 * @param {Schema} schema
 * @param {(ref: string) => Schema | undefined} resolve
 * @returns {{name: string, schema: Schema, required: boolean}[]}
 */
export function fields(schema, resolve) {
  const own = Object.entries(schema.properties ?? {}).map(([name, each]) => ({
    name,
    schema: each,
    required: schema.required?.includes(name) ?? false,
  }));
  const parts = (schema.allOf ?? []).flatMap((part) => {
    const whole = part.$ref ? resolve(part.$ref) : part;
    return whole ? fields(whole, resolve) : [];
  });
  return [...parts, ...own];
}
