/** Paragraphs, and what is asked about them. */

export interface QuestionSet {
  readonly name: string; // a file's, or "own"
  readonly paragraphs: readonly { readonly text: string; readonly article: string }[];
  readonly questions: readonly Question[];
}

export interface Question {
  readonly question: string;
  readonly answers: readonly string[];
  readonly paragraphs: readonly number[]; // those that hold the answer, and come with every sample
}
