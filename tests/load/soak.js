// Calls for a long time, with pauses in which pods go: k6 run -e URL=... [-e MINUTES=30] soak.js

import { sleep } from 'k6';
import { call, thresholds } from './calling.js';

const minutes = Number(__ENV.MINUTES || '30');

export const options = {
  thresholds,
  scenarios: {
    soak: { executor: 'constant-vus', vus: 4, duration: `${minutes * 60}s`, gracefulStop: '120s' },
  },
};

// Each caller calls for a minute and is away for a minute, all at the same time.
export default function () {
  if (Math.floor(Date.now() / 60000) % 2 === 0) call();
  else sleep(1);
}
