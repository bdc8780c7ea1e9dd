// From no pod at all to steady load and back: k6 run -e URL=... [-e HOST=...] ramp.js

import { call, thresholds } from './calling.js';

export const options = {
  thresholds,
  scenarios: {
    ramp: {
      executor: 'ramping-vus',
      startVUs: 1,
      stages: [
        { duration: '20s', target: 20 },
        { duration: '20s', target: 20 },
        { duration: '20s', target: 0 },
      ],
      gracefulRampDown: '120s',
      gracefulStop: '120s',
    },
  },
};

export default call;
