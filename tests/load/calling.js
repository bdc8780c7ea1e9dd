// What all load tests share: how a function is called, and that no call may fail.
//
// URL: where calls go. HOST: the Host header, where the URL is that of an ingress. BODY: what is
// posted, {"name": "Ada"} without it. KEY: an API key, where one is needed.

import http from 'k6/http';
import { check } from 'k6';

const headers = { 'Content-Type': 'application/json' };
if (__ENV.HOST) headers.Host = __ENV.HOST;
if (__ENV.KEY) headers.Authorization = `Bearer ${__ENV.KEY}`;

// A cold call waits for its pod.
const params = { headers, timeout: '120s' };
const body = __ENV.BODY || '{"name": "Ada"}';

// A failed request is counted as failed by k6, and a wrong status by the check.
export const thresholds = { http_req_failed: ['rate==0'], checks: ['rate==1'] };

export function call() {
  const answer = http.post(__ENV.URL, body, params);
  check(answer, { 'is answered': (each) => each.status === 200 });
}
