// .env.example, imported as text.
declare module "*.example" {
  const text: string;
  export default text;
}
