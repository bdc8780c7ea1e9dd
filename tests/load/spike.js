// Many callers at once where there was one: k6 run -e URL=... [-e HOST=...] spike.js

import { call, thresholds } from './calling.js';

export const options = {
  thresholds,
  scenarios: {
    before: { executor: 'constant-vus', vus: 1, duration: '40s', gracefulStop: '120s' },
    spike: {
      executor: 'constant-vus',
      vus: 50,
      startTime: '10s',
      duration: '15s',
      gracefulStop: '120s',
    },
  },
};

export default call;
