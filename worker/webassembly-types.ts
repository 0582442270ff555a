/** The names of WebAssembly's types, for programs that are compiled without the DOM's. To those that are, it adds nothing. */
declare global {
  namespace WebAssembly {
    interface Module {}
    interface Memory {}
  }
}

export {};
