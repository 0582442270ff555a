/** Something was asked of what a request held after it was given up: its client had gone for too long, or the engine was closed. */
export class GivenUp extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'GivenUp';
  }
}
