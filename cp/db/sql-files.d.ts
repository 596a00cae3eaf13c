// A migration imported with `{ type: "text" }`: part of the program, in a compiled binary too.
declare module "*.sql" {
  const text: string;
  export default text;
}
