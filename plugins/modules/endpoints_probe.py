#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: endpoints_probe
short_description: Do all endpoints of a node answer, as its clients need them to
version_added: 0.1.0
description:
  - Asks each endpoint as M(nusy.dgx_spark.inference_probe) does, one after the other, and brings one verdict on each
    aspect for all of them together - C(probe/endpoint), C(probe/access), C(probe/answers) and C(probe/speed) - as
    evidence for the drift report.
  - Changes nothing.
notes:
  - In a real run whatever is not as wanted is an error, so that a play, or a rollout, stops there. In check mode it is
    reported only.
  - Keys are in no result, and on no command line.
  - One question is one question. A load is made only when O(sessions) asks for it.
attributes:
  check_mode:
    description: Asks the same in check mode, and waits for nobody. It never changes anything.
    support: full
  diff_mode:
    description: Nothing is changed, so there is no diff.
    support: none
  idempotent:
    description: Reads only.
    support: full
options:
  endpoints:
    description: Whom to ask. The lookup P(nusy.dgx_spark.published_endpoints#lookup) makes these of declared engines.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What it is called in the result.
        type: str
        required: true
      url:
        description: Address of the API. Without a path it is C(/v1).
        type: str
        required: true
      model:
        description: Name of the model as clients use it; empty for the first that is listed.
        type: str
        default: ""
      api_key:
        description: Key to come with. That who has none is refused is looked at, too.
        type: str
      server_certificate:
        description: >-
          File on the node with the certificate that the server must show, in PEM, in place of O(endpoints[].pin).
        type: path
      pin:
        description: SHA-256 of that certificate.
        type: str
      ca:
        description: Certificates of authorities that may vouch for the server, in PEM.
        type: path
      certificate:
        description: Certificate to come with, in PEM.
        type: path
      private_key:
        description: Its key.
        type: path
  wait:
    description: >-
      Seconds, of all together, in which an endpoint that is still loading may begin to answer. In check mode
      nobody is waited for.
    type: float
    default: 0
  certificate_days:
    description: A certificate of a server that ends before so many days is a fault.
    type: int
    default: 14
  question:
    description: What is asked. At most 256 tokens are taken for an answer.
    type: str
    default: What is 2+2? Reply with just the number.
  expected:
    description: Word that the answer must have; empty for any.
    type: str
    default: "4"
  timeout:
    description: Seconds for one whole answer, and as many for its connection.
    type: float
    default: 60
  sessions:
    description: How many ask each endpoint at the same time, at most 512; 0 for no load.
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
    description: What the answers to O(sessions) must keep to, as in M(nusy.dgx_spark.inference_probe).
    type: dict
    suboptions:
      p50:
        description: Seconds that half of the answers take less than.
        type: float
      p95:
        description: Of 95 of 100.
        type: float
        default: 6
      p99:
        description: Of 99 of 100.
        type: float
      first_token:
        description: Seconds in which 95 of 100 begin.
        type: float
      tokens_per_second:
        description: At least so many, all sessions together.
        type: float
      errors:
        description: Share of requests that may stay without an answer.
        type: float
        default: 0.01
  skip_controls:
    description: Ids of controls to leave alone. They are reported as not selected.
    type: list
    elements: str
    default: []
author:
  - The nusy.dgx_spark maintainers (@nusy)
seealso:
  - module: nusy.dgx_spark.inference_probe
  - plugin: nusy.dgx_spark.published_endpoints
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Stop unless every engine of this node answers, ten agents within six seconds
  nusy.dgx_spark.endpoints_probe:
    sessions: 10
    endpoints:
      - name: vllm@main
        url: http://127.0.0.1:8000/v1
        model: main
        api_key: "{{ vault_main_key }}"
"""

RETURN = r"""
controls:
  description: The evidence, see docs/contracts/evidence.md.
  returned: when the options are right
  type: list
  elements: dict
endpoints:
  description: For each its C(name), and what M(nusy.dgx_spark.inference_probe) returns of one.
  returned: when the options are right
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
from ansible_collections.nusy.dgx_spark.plugins.module_utils._engines import probes


def main() -> None:
    module = exact(AnsibleModule)(argument_spec=probes.ARGUMENT_SPEC, supports_check_mode=True)
    params = module.params
    # A server may repeat a key in what it says.
    redact = Redactor([one["api_key"] or "" for one in params["endpoints"]])
    try:
        made = probes.requests(params)
    except InputError as error:
        fail(module, error, redact)
        return
    skipped = params["skip_controls"]
    asked = probes.ask(made, 0 if module.check_mode else params["wait"], skipped)
    result = {
        "changed": False,
        "controls": [one.as_dict() for one in probes.controls(asked, skipped)],
        "endpoints": [probes.told(one) for one in asked],
    }
    report(module, result, probes.error(asked), redact)


if __name__ == "__main__":
    main()
