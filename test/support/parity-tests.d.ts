declare module 'parity-tests' {
  const files: Readonly<Record<string, () => Promise<unknown>>>;
  export default files;
}
