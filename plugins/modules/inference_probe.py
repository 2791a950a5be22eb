#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: inference_probe
short_description: Does this endpoint of the OpenAI API answer, to whom, and how fast
version_added: 0.1.0
description:
  - Asks an endpoint that speaks the API of OpenAI - vLLM, llama.cpp, a gateway - as its clients do, and says what is
    wrong with it, why that matters and what to do about it.
  - Looks in this order, and as far as it comes. Connection, TLS and certificate; the list of models; whether who comes
    without key or certificate is refused; a question with a known answer, streamed; many sessions at once.
  - An engine can be healthy by its C(/health) and answer nobody. Here it counts that an answer came.
  - Changes nothing. It runs where the task runs, so that C(delegate_to) chooses from where it looks.
notes:
  - In a real run whatever is not as wanted is an error, so that a play stops there. In check mode it is reported only.
    C(check_mode=true) on the task has the report in a real run, too.
  - Every question ends within O(timeout). Proxies of the environment are not used.
  - The key is in no result, and on no command line.
  - The sessions of O(sessions) are real work for the engine. They do not profit from answers that it remembers.
attributes:
  check_mode:
    description: Asks the same in check mode. It never changes anything.
    support: full
  diff_mode:
    description: Nothing is changed, so there is no diff.
    support: none
  idempotent:
    description: Reads only.
    support: full
options:
  url:
    description:
      - Address of the API, such as C(https://spark-01.example.org:8000/v1). Without a path it is C(/v1).
    type: str
    required: true
  model:
    description:
      - Name of the model as clients use it. It has to be in the list of the server.
      - Empty for the first one that is listed.
    type: str
    default: ""
  api_key:
    description: Key to come with. That the server refuses who has none is looked at, too.
    type: str
  ca:
    description:
      - Certificates of authorities that may vouch for the server, in PEM.
      - The default is those that the node trusts.
    type: path
  certificate:
    description:
      - Certificate to come with, in PEM, perhaps with its key. That the server refuses who has none is looked at, too.
    type: path
  private_key:
    description: Key of O(certificate), in PEM, without a password.
    type: path
  pin:
    description:
      - SHA-256 of the certificate that the server must show, in hexadecimal, with or without colons.
      - Without O(ca) the pin is all the proof there is, so that a certificate which its owner signed will do.
    type: str
  certificate_days:
    description: A certificate of the server that ends before so many days is a fault.
    type: int
    default: 14
  question:
    description: What is asked first. At most 256 tokens are taken for an answer.
    type: str
    default: What is 2+2? Reply with just the number.
  expected:
    description:
      - Word that the answer must have. Damaged weights and wrong templates answer fluently, and not this.
      - Empty for any answer.
    type: str
    default: "4"
  timeout:
    description: Seconds for one whole answer, and as many for its connection.
    type: float
    default: 60
  sessions:
    description: How many ask at the same time, at most 512; 0 for no load.
    type: int
    default: 0
  requests:
    description: How many questions each of them asks, one after the other.
    type: int
    default: 2
  tokens:
    description: Tokens to answer each of these with, at most.
    type: int
    default: 64
  load_seconds:
    description: No more questions of sessions are begun after so many seconds.
    type: float
    default: 120
  slo:
    description:
      - What the answers to O(sessions) must keep to. Times are seconds of a whole answer.
      - The defaults are what ten agents of the Manolin cluster are promised by the model that they share.
    type: dict
    suboptions:
      p50:
        description: Half of the answers take less.
        type: float
      p95:
        description: 95 of 100 take less.
        type: float
        default: 6
      p99:
        description: 99 of 100 take less.
        type: float
      first_token:
        description: 95 of 100 begin earlier.
        type: float
      tokens_per_second:
        description: At least so many, all sessions together.
        type: float
      errors:
        description: Share of requests that may stay without an answer.
        type: float
        default: 0.01
  role:
    description:
      - Name of the role that answers for the endpoint. The result carries its controls then - C(<role>/endpoint),
        C(<role>/access), C(<role>/answers) and C(<role>/speed) - as evidence for the drift report.
    type: str
    default: ""
author:
  - The nusy.dgx_spark maintainers (@nusy)
seealso:
  - name: Serving
    description: The faults by their kind, and the probe as a gate.
    link: https://github.com/nusy/dgx_spark/blob/main/docs/guides/serving.md
"""

EXAMPLES = r"""
- name: Stop unless the engine answers
  nusy.dgx_spark.inference_probe:
    url: http://127.0.0.1:8000/v1
    model: mistral-7b-instruct
    api_key: "{{ vault_engine_key }}"

- name: Hold ten agents to what they are promised, before the next node is rolled out
  nusy.dgx_spark.inference_probe:
    url: https://{{ inventory_hostname }}:8000/v1
    api_key: "{{ vault_engine_key }}"
    ca: /etc/ssl/site/ca.pem
    sessions: 10
    slo:
      p95: 6
      first_token: 1.5
      tokens_per_second: 100
  delegate_to: localhost

- name: Only look, also in a real run
  nusy.dgx_spark.inference_probe:
    url: http://127.0.0.1:8080
  check_mode: true
  register: probe
"""

RETURN = r"""
ok:
  description: Nothing is wrong, and nothing that was asked about is unknown.
  returned: when the options are right
  type: bool
url:
  description: The endpoint.
  returned: when the options are right
  type: str
reachable:
  description: Something answered, whatever it was.
  returned: when the options are right
  type: bool
tls:
  description: The certificate that the server shows; null without TLS or without an answer.
  returned: when the options are right
  type: dict
  contains:
    fingerprint:
      description: Its SHA-256, as O(pin) takes it.
      type: str
    expires:
      description: When it ends.
      type: str
    days_left:
      description: Whole days until then; negative when it is over.
      type: int
models:
  description: What the server lists; null when it did not.
  returned: when the options are right
  type: list
  elements: str
model:
  description: The one that was asked; null when none was.
  returned: when the options are right
  type: str
key_refused_without:
  description: Whether who comes without the key is refused; null when that is not known, or O(api_key) is not given.
  returned: when the options are right
  type: bool
certificate_refused_without:
  description: The same for O(certificate).
  returned: when the options are right
  type: bool
handshake:
  description: The answer to O(question); null when there was none.
  returned: when the options are right
  type: dict
  contains:
    answer:
      description: Its beginning, without what the model said to itself.
      type: str
    first_token_seconds:
      description: Until the first piece.
      type: float
    seconds:
      description: Until the end.
      type: float
    tokens:
      description: As the server counted them; null when it did not.
      type: int
    tokens_per_second:
      description: After the first one, by the count of the server; null when there is none, or one token only.
      type: float
load:
  description: What O(sessions) got; null without them.
  returned: when the options are right
  type: dict
  contains:
    sessions:
      description: How many asked at once.
      type: int
    requests:
      description: How many questions were begun.
      type: int
    answered:
      description: How many had a whole answer.
      type: int
    seconds:
      description: From the first question to the last answer.
      type: float
    p50:
      description: Seconds of a whole answer, as it was measured (nearest rank); null without one. So are the others.
      type: float
    p95:
      description: Of 95 of 100.
      type: float
    p99:
      description: Of 99 of 100.
      type: float
    first_token_p95:
      description: Until the first piece.
      type: float
    tokens:
      description: Of all answers, by the count of the server; null when one came without.
      type: int
    tokens_per_second:
      description: All sessions together.
      type: float
    errors:
      description: Each C(kind) of fault with its C(count), and what was C(found) for one of them.
      type: list
      elements: dict
faults:
  description: What is wrong, the first that was found first.
  returned: when the options are right
  type: list
  elements: dict
  contains:
    aspect:
      description: C(endpoint), C(access), C(answers) or C(speed).
      type: str
    kind:
      description: Such as C(refused), C(stranger), C(no_model) or C(slow); the guide has them all.
      type: str
    wanted:
      description: What should be.
      type: str
    found:
      description: What is.
      type: str
    why:
      description: Why it matters.
      type: str
    fix:
      description: What to do.
      type: str
unknown:
  description: Each aspect that could not be looked at, and why.
  returned: when the options are right
  type: dict
controls:
  description: The evidence.
  returned: when O(role) is given
  type: list
  elements: dict
error:
  description: >-
    The first fault, or what is wrong with the options: C(key), C(kind), C(wanted), C(found), C(why), C(fix).
  returned: failure
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import exact, fail, report
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.errors import InputError
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.redact import Redactor
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference.probe import examined
from ansible_collections.nusy.dgx_spark.plugins.module_utils._inference.request import ARGUMENT_SPEC, request_of


def main() -> None:
    module = exact(AnsibleModule)(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    # A server may repeat the key in what it says.
    redact = Redactor([module.params["api_key"] or ""])
    try:
        request = request_of(module.params)
    except InputError as error:
        fail(module, error, redact)
        return
    found = examined(request)
    result = {"changed": False, **found.as_dict(request)}
    report(module, result, None if found.fine else found.error(request), redact)


if __name__ == "__main__":
    main()
