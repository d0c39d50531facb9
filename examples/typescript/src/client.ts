// A client of Botify's /v1 for browsers' backends, Node, Deno and Bun. It needs fetch alone; the types of what is sent and
// received are made from the service's OpenAPI document (`npm run types`).
import type { components, operations } from "./v1.js";

type Schemas = components["schemas"];
type Query<Operation extends keyof operations> = NonNullable<operations[Operation]["parameters"]["query"]>;

/** A number, or a name of your own: an external id. */
export type Id = string | number;
export type Event = Schemas["Event"];
export type Item = Schemas["Item"];
export type ItemPage = Schemas["ItemPage"];
export type Recommendations = Schemas["Recommendations"];
export type User = Schemas["User"];
type Asked = Query<"recommendations_v1_users__user__recommendations_get">;
type Page = Query<"latest_v1_latest_get">;
type Popular = Query<"popular_v1_popular_get">;

const RETRIED = new Set([202, 429, 503]); // 202: an erasure takes longer, and the same call asks for it again
const RETRIES = 3;
const MAX_EVENTS = 1_000;
const MAX_LISTENS = 50; // of one listener in a request, so that a retry counts none twice
const MAX_BYTES = 250_000; // of a request's body, a little less than the service takes

/** The service did not answer, or cannot serve at the moment, after all retries. */
export class UnavailableError extends Error {}

/** The service refused the request; `errors` has JSON pointers of wrong fields. */
export class ProblemError extends Error {
  constructor(
    readonly status: number,
    detail: string,
    readonly errors: Schemas["Problem"]["errors"] = undefined,
  ) {
    super([`${status}: ${detail}`, ...(errors ?? []).map((one) => `${one.pointer}: ${one.detail}`)].join("; "));
  }
}

/** A client of the gateway at `url`. Calls are tried again, at most three times, while it cannot serve; events have ids, so
 * that one that is sent again counts once. */
export class BotifyClient {
  constructor(
    private readonly url: string,
    private readonly options: { token?: string | undefined; timeoutMs?: number } = {},
  ) {}

  /** Recommend items to a listener; a filter is `field:value`, as `genre:rock`. */
  recommendations(user: Id, asked: Asked = {}): Promise<Recommendations> {
    const exclude = asked.exclude?.map(inText);
    return this.call("GET", `${userPath(user)}/recommendations`, exclude ? { ...asked, exclude } : asked);
  }

  /** Tell what listeners did, in as many requests as it takes, and return the ids of the events. */
  async send(...events: Event[]): Promise<string[]> {
    const named = events.map((event) => ({ ...event, id: event.id ?? crypto.randomUUID() }));
    const ids: string[] = [];
    for (const part of inRequests(named)) {
      ids.push(...(await this.call<Schemas["Accepted"]>("POST", "events", {}, { events: part })).ids);
    }
    return ids;
  }

  item = (item: Id): Promise<Item> => this.call("GET", itemPath(item));
  putItem = (item: Id, body: Schemas["ItemBody"]): Promise<Item> => this.call("PUT", itemPath(item), {}, body);
  /** Delete an item: it is never recommended again. */
  deleteItem = (item: Id): Promise<Item> => this.call("DELETE", itemPath(item));
  similar = (item: Id, page: Page = {}): Promise<ItemPage> => this.call("GET", `${itemPath(item)}/similar`, page);
  popular = (page: Popular = {}): Promise<ItemPage> => this.call("GET", "popular", page);
  rising = (page: Page = {}): Promise<ItemPage> => this.call("GET", "rising", page);
  latest = (page: Page = {}): Promise<ItemPage> => this.call("GET", "latest", page);
  user = (user: Id): Promise<User> => this.call("GET", userPath(user));
  /** Replace what a listener likes and dislikes. */
  putUser = (user: Id, body: Schemas["UserBody"]): Promise<User> => this.call("PUT", userPath(user), {}, body);
  /** Erase a listener, with all listens. */
  erase = (user: Id): Promise<Schemas["Erased"]> => this.call("DELETE", userPath(user));

  private async call<T>(method: string, path: string, query: object = {}, body?: object): Promise<T> {
    const parameters = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) {
      for (const one of Array.isArray(value) ? value : [value]) {
        if (one !== undefined && one !== null) parameters.append(name, String(one));
      }
    }
    const url = `${this.url.replace(/\/+$/, "")}/v1/${path}${parameters.size ? `?${parameters}` : ""}`;
    const { token, timeoutMs = 10_000 } = this.options;
    const headers: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` };
    if (body !== undefined) headers["content-type"] = "application/json";
    const sent = { method, headers, body: body === undefined ? null : JSON.stringify(body) };
    let why = "";
    for (let attempt = 0; attempt <= RETRIES; attempt++) {
      let waitMs = 100 * 2 ** attempt;
      try {
        const answer = await fetch(url, { ...sent, signal: AbortSignal.timeout(timeoutMs) });
        if (answer.ok && !RETRIED.has(answer.status)) return (await answer.json()) as T;
        const problem = (await answer.json().catch(() => ({}))) as Partial<Schemas["Problem"]>;
        why = problem.detail ?? answer.statusText;
        if (!RETRIED.has(answer.status)) throw new ProblemError(answer.status, why, problem.errors);
        why = `${answer.status}: ${why}`;
        const asked = answer.headers.get("retry-after") ?? "";
        if (/^\d+$/.test(asked)) waitMs = Number(asked) * 1000;
      } catch (error) {
        if (error instanceof ProblemError) throw error;
        why = String(error); // no connection, or no answer in time
      }
      if (attempt < RETRIES) await new Promise((resolve) => setTimeout(resolve, waitMs));
    }
    throw new UnavailableError(`${url}: ${why}`);
  }
}

/** Yield events in the parts that requests may have, in order. */
export function* inRequests(events: Event[]): Generator<Event[]> {
  let part: Event[] = [];
  let bytes = 0;
  let listens = new Map<Id, number>();
  for (const event of events) {
    const isListen = event.kind === "listen" || event.kind === "skip";
    const heard = listens.get(event.user) ?? 0;
    const size = new TextEncoder().encode(JSON.stringify(event)).length + 1;
    if (part.length === MAX_EVENTS || bytes + size > MAX_BYTES || (isListen && heard === MAX_LISTENS)) {
      yield part;
      [part, bytes, listens] = [[], 0, new Map()];
    }
    part.push(event);
    bytes += size;
    if (isListen) listens.set(event.user, (listens.get(event.user) ?? 0) + 1);
  }
  if (part.length) yield part;
}

/** Return a number as digits, and a name that could be taken for one in quotes. */
function inText(id: Id): string {
  return typeof id === "string" && /^[-+]?[0-9]+(\.[0-9]*)?$/.test(id) ? `"${id}"` : String(id);
}

const inPath = (id: Id): string => encodeURIComponent(String(id)).replace(/%2F/g, "/").replace(/%3A/g, ":");
const itemPath = (item: Id): string => `items/${inPath(inText(item))}`;
const userPath = (user: Id): string => `users/${inPath(user)}`;
