// Files of a package imported with `{ type: "file" }`: the path of the file, in a compiled binary of
// the copy it carries.
declare module "swagger-ui-dist/*" {
  const path: string;
  export default path;
}
