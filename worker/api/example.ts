/** A request that works as it stands with any chat model: in what `GET /` and `npm start` print. */
export const exampleRequest = {
  messages: [
    {
      role: 'user',
      content: [
        {
          type: 'text',
          text: 'The grass is green and the sky is blue. A pilot and a dancer smiled by the beach in April. One of the special magic numbers for brave otter is: 4821. Nora and Quinn whispered in the stable. The crow sat near the castle. One of the special magic numbers for old lamp is: 7306. The horse slept near the valley. They cried along the road until sunset. Anna lives in Oslo.\n',
        },
        { type: 'text', text: 'What is the special magic number for brave otter mentioned in the provided text?' },
      ],
    },
  ],
  temperature: 0,
  max_tokens: 64,
  press: { preset: 'zigzag_snapkv', compression_ratio: 0.5, window_size: 8, scope: 'prompt' },
};

/** One line for a POSIX shell; nothing in the request needs escaping between single quotes. With keys it reads one from $API_KEY. */
export function exampleCurl(origin: string, needsKey: boolean): string {
  const key = needsKey ? ` -H "authorization: Bearer $API_KEY"` : '';
  return `curl -s ${origin}/v1/chat/completions -H 'content-type: application/json'${key} -d '${JSON.stringify(exampleRequest)}'`;
}
