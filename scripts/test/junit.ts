// What Bun's JUnit report says of each test. It tells of no attempts: a test that passed at its second one
// (`--retry`) looks like any other there, which is why bun-test.ts runs files again by itself.

export type Outcome = "passed" | "failed" | "skipped";

export interface FileReport {
  /** Outcomes by the test's full name, groups first; a hook that failed has the name Bun gives it. */
  readonly tests: ReadonlyMap<string, Outcome>;
  /** What those that failed said, by the same names. */
  readonly messages: ReadonlyMap<string, string>;
  readonly seconds: number;
}

const TAGS = /<(\/?)(testsuite|testcase|failure|skipped)((?:\s+[\w-]+="[^"]*")*)\s*\/?>/g;

/** The files of a report by their path, as Bun was given it. */
export function readJunit(xml: string): Map<string, FileReport> {
  const files = new Map<
    string,
    FileReport & { tests: Map<string, Outcome>; messages: Map<string, string> }
  >();
  const groups: string[] = [];
  let file = "";
  let test = "";
  for (const [, isEnd, tag, text = ""] of xml.matchAll(TAGS)) {
    if (tag === "testsuite" && isEnd) {
      groups.pop();
    } else if (tag === "testsuite") {
      // The outermost is the file itself.
      if (groups.length === 0) {
        file = attribute(text, "file");
        const seconds = Number(attribute(text, "time"));
        files.set(file, { tests: new Map(), messages: new Map(), seconds });
      }
      groups.push(attribute(text, "name"));
    } else if (tag === "testcase" && !isEnd) {
      test = unused(files.get(file)?.tests, [...groups.slice(1), attribute(text, "name")]);
      files.get(file)?.tests.set(test, "passed");
    } else if (!isEnd) {
      files.get(file)?.tests.set(test, tag === "failure" ? "failed" : "skipped");
      if (tag === "failure") files.get(file)?.messages.set(test, attribute(text, "message"));
    }
  }
  return files;
}

/** Tests of one name are told apart by their number. */
function unused(tests: ReadonlyMap<string, Outcome> | undefined, path: readonly string[]): string {
  const name = path.join(" > ");
  let candidate = name;
  for (let number = 2; tests?.has(candidate); number++) candidate = `${name} (${number})`;
  return candidate;
}

function attribute(text: string, name: string): string {
  const value = new RegExp(`\\s${name}="([^"]*)"`).exec(text)?.[1] ?? "";
  return value
    .replace(/&#(\d+);/g, (_, code) => String.fromCodePoint(Number(code)))
    .replaceAll("&lt;", "<")
    .replaceAll("&gt;", ">")
    .replaceAll("&quot;", '"')
    .replaceAll("&apos;", "'")
    .replaceAll("&amp;", "&");
}
