#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: ensure_state
short_description: Ensure everything one role declares, in one call
version_added: 0.1.0
description:
  - Takes one document of controls. Each control declares what must be true for it to be in
    sync - packages, accounts, directories, files, links, single settings, kernel values and modules, mounts,
    what tools say, systemd units.
  - Looks at everything, plans everything together in order, applies, looks again. In check
    mode the same plan is made and nothing is applied, so a check predicts what a run does,
    also on a bare node.
  - Reports a verdict for each control. One that cannot be seen is C(unknown) with a reason
    and is never shown as fine.
  - What can lose data, cut access or stop the machine is done only when O(confirm) names its
    victim. Until then the control is drifted with C(blocked_by), the rest converges and the
    task does not fail.
  - A file, link or directory that was there before the role ever applied it, is not empty and not as declared is such
    a victim, by its path, unless it is a conffile as its package brought it.
  - Controls that contradict each other are refused. A package, directory, link, kernel value or kernel module may be
    declared twice in the same words, a file in fragments, a unit property by property; everything else once.
  - Controls are ensured in the order given; inside a control in the order of the options
    below. Restarts come last.
  - Packages of controls that follow each other, with nothing to be done in between, are installed in one transaction.
    Where that fails each control gets its own alone, so the error names the packages of one control.
attributes:
  check_mode:
    description: Makes the same plan and applies nothing.
    support: full
  diff_mode:
    description: Shows each differing property of each drifted control.
    support: full
  idempotent:
    description: After applying, the node is looked at again; a plan that is not empty is an error.
    support: full
options:
  role:
    description: Name of the declaring role. Every control id begins with it.
    type: str
    required: true
  controls:
    description: The document.
    type: list
    elements: dict
    required: true
    suboptions:
      id:
        description:
          - C(<role>/<control>), as in C(meta/controls.yml) of the role.
          - C(<role>/file_extra) comes by itself with a declared file. Listed empty, it is there without one.
        type: str
        required: true
      packages:
        description:
          - Packages that must be installed and configured, as C(name), C(name=version) or
            C(name | alternative). An alternative that is there will do; otherwise the first is installed.
          - Installing never removes or downgrades a package as a by-product unless O(confirm) names it. A
            version older than the installed one needs that, too.
          - A name without an architecture means the one of the node.
        type: list
        elements: str
        default: []
      absent_packages:
        description:
          - Packages that must not be installed. Each, and each that needs it, is a victim that O(confirm)
            must name.
        type: list
        elements: str
        default: []
      holds:
        description:
          - Which of O(controls[].packages) are held at their version. Where an alternative is there, it is held.
        type: list
        elements: str
        default: []
      groups:
        description: Groups that must exist.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: Name of the group.
            type: str
            required: true
          gid:
            description:
              - Number; not managed when unset. Changing it on an existing group needs O(confirm).
              - One that another group has is refused before anything is done.
            type: int
          system:
            description: Take the number of a new group from the system range.
            type: bool
            default: false
      users:
        description:
          - Users that must exist. An unset option is not managed.
          - Another group, home, shell or comment of an account that people log in by needs O(confirm) - root, one
            with a number from 1000 on, and a system account with a login shell that this role did not make.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: Name of the user.
            type: str
            required: true
          uid:
            description:
              - Number. Changing it on an existing user needs O(confirm), and that none of its processes run.
              - One that another user has is refused before anything is done.
            type: int
          group:
            description: Primary group. Unset, a new user gets one of its own name, which may be there already.
            type: str
          groups:
            description: Further groups the user must be in. Others it is in stay.
            type: list
            elements: str
            default: []
          home:
            description:
              - Home directory. Declare it in O(controls[].directories) to have it made. V(/) is for accounts
                without one.
              - It cannot be changed while processes of the user run.
            type: str
          shell:
            description: Login shell.
            type: str
          comment:
            description: The GECOS field.
            type: str
          system:
            description: Take the number of a new user from the system range.
            type: bool
            default: false
      directories:
        description:
          - Directories that must exist. One that is not empty and belongs to somebody else is
            taken over only when O(confirm) names its path.
        type: list
        elements: dict
        default: []
        suboptions:
          path:
            description: Absolute path.
            type: str
            required: true
          owner:
            description: Owning user.
            type: str
            default: root
          group:
            description: Owning group.
            type: str
            default: root
          mode:
            description: Octal mode, quoted; a number is refused, since YAML makes 420 of 0644.
            type: raw
            default: "0755"
      files:
        description:
          - Text files the role owns whole. A line that no control declares is drift of the
            control C(<role>/file_extra). Missing parent directories are made C(root:root 0755).
        type: list
        elements: dict
        default: []
        suboptions:
          path:
            description: Absolute path.
            type: str
            required: true
          content:
            description:
              - Text, with a line end added to the last line if it lacks one.
              - C(${secret:name}) stands for the value of that name in O(secrets). Such a file must
                have a mode that is closed to others.
            type: str
            default: ""
          owner:
            description: Owning user.
            type: str
            default: root
          group:
            description: Owning group.
            type: str
            default: root
          mode:
            description: Octal mode, quoted; a number is refused, since YAML makes 420 of 0644.
            type: raw
            default: "0644"
          state:
            description: With V(absent) the path is a victim that O(confirm) must name.
            type: str
            choices: [present, absent]
            default: present
          fragment:
            description:
              - The content is this control's part of a file that several controls write.
                Parts are put together in the order of the document and judged one by one.
            type: bool
            default: false
          sensitive:
            description:
              - Whether lines of this file are kept out of results, diffs and errors.
              - When unset, they are if others cannot read the file, as declared or as found, by its
                own mode or that of a folder on its way - it may hold secrets that nobody declares any more.
              - V(false) vouches that they can be shown (for example those of a sudoers file). A
                file with a reference to a secret is never shown, whatever this says.
              - Ansible itself logs the options of a module on the node. A secret belongs into O(secrets),
                never into O(controls[].files[].content).
            type: bool
          validate:
            description: Command that must accept a copy of the file first; C(%s) is its path.
            type: list
            elements: str
            default: []
      links:
        description: Symbolic links that must exist.
        type: list
        elements: dict
        default: []
        suboptions:
          path:
            description: Absolute path of the link.
            type: str
            required: true
          target:
            description: What it must contain, to the letter.
            type: str
            required: true
      settings:
        description:
          - Values in text files that somebody else owns and that have no folder for parts. Every other line stays.
          - Where a name is set twice, its last line counts. What reads a name in another way has to be a whole file.
        type: list
        elements: dict
        default: []
        suboptions:
          path:
            description: Absolute path. The file itself is brought by a package.
            type: str
            required: true
          name:
            description: What stands at the beginning of the line.
            type: str
            required: true
          value:
            description: What follows it.
            type: str
            required: true
          separator:
            description: What stands between the two where the line is written. Blanks, with an equals sign or without.
            type: str
            default: " "
      kernel_modules:
        description: Kernel modules, live and at boot.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: Name of the module.
            type: str
            required: true
          loaded:
            description:
              - V(true) loads it now and at boot, V(false) keeps it from being loaded.
                Unloading one that is in use needs O(confirm) to name it.
            type: bool
            default: true
      sysctls:
        description:
          - Kernel values, live and at boot. A value that a kernel module of this document brings is set
            in the run that loads the module.
          - A later file that sets another value is drift, and O(confirm) must name it. In C(/etc) the line is
            then commented out; a file of a package is hidden by a copy of the same name in C(/etc/sysctl.d).
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description:
              - Name with dots, for example C(vm.swappiness).
              - C(*) in the place of an interface means each that there is, C(all) and C(default) as well, and at boot
                each that comes, as in C(net.ipv4.conf.*.send_redirects).
            type: str
            required: true
          value:
            description: Value, one line of ASCII; runs of white space compare equal.
            type: str
            required: true
      sysfs:
        description:
          - Values below C(/sys), live and at boot, by a line of tmpfiles.d(5). A file that shows a choice in square
            brackets is compared by the chosen word.
          - An earlier file of tmpfiles.d that sets another value is drift that this module does not mend.
        type: list
        elements: dict
        default: []
        suboptions:
          path:
            description: For example C(/sys/kernel/mm/transparent_hugepage/enabled).
            type: str
            required: true
          value:
            description: One line of ASCII without percent signs, backslashes and quotes.
            type: str
            required: true
      mounts:
        description:
          - Mounts, live and in C(/etc/fstab), where every other line stays as it is, and of a line what
            cannot be declared here (when to dump and to check it; 0 where a new line is written).
          - What is mounted is compared with what the source means on this node, whatever it is called. Something
            else, mounted there or named in fstab for the same place, is replaced only when O(confirm) names the path.
        type: list
        elements: dict
        default: []
        suboptions:
          path:
            description:
              - Mount point, made when it is missing. O(controls[].directories) with the same path
                declares the root of what is mounted there; without it, that root stays as it comes.
            type: str
            required: true
          source:
            description:
              - Device, tag such as V(UUID=...), export, folder or image, as in fstab.
              - One that cannot be resolved on the node is C(unknown) while something is mounted there.
            type: str
            required: true
          fstype:
            description: File system type. V(nfs) and V(nfs4) are the same; V(auto) is any.
            type: str
            required: true
          options:
            description:
              - Mount options, one a list entry; none means V(defaults). With V(noauto) nothing needs to be mounted.
              - Compared with the live ones are C(ro), C(rw) and the other flags of every mount, C(size), C(nr_inodes),
                C(errors) and C(commit), and of NFS C(vers), C(proto), C(sec), C(hard) and C(soft), each where the
                kernel shows it. The others are compared in fstab only.
              - O(confirm) must name the path to make a mount writable again, or to mount NFS anew for an option of it.
            type: list
            elements: str
            default: [defaults]
      probes:
        description:
          - What is in force, as a tool of the node says. A file that was written and does not count is drift.
          - Where O(controls[].probes[].mend) is not given and no other step of the control would change the answer,
            a run does everything else and fails at its end.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: A word that names it in the report. Used once in the document.
            type: str
            required: true
          command:
            description:
              - Program, by its absolute path, and arguments. It is run in check mode, too, and must change nothing.
              - One that fails makes the control C(unknown). One that a package of this run brings is drift.
            type: list
            elements: str
            required: true
          has:
            description: Lines that it must print, whatever the number of blanks between their words.
            type: list
            elements: str
            default: []
          lacks:
            description: Lines that it must not print, as patterns (C(*), C(?), C([])), whatever their case.
            type: list
            elements: str
            default: []
          silent:
            description: It must print nothing.
            type: bool
            default: false
          last:
            description: Of lines that set the same name (what stands before the first C(=)), only the last one counts.
            type: bool
            default: false
          separator:
            description: Characters that end an item as the end of a line does.
            type: str
            default: ""
          root:
            description: Whether only root gets the answer. Without root the control is then C(unknown).
            type: bool
            default: true
          mend:
            description: Program, by its absolute path, and arguments, that make it so.
            type: list
            elements: str
            default: []
          otherwise:
            description: The reason that is told where nothing makes it so.
            type: str
            default: ""
      units:
        description:
          - systemd units. An unset option is not managed. A drop-in of somebody else that
            overrides a directive of ours is drift.
          - A unit that runs with an older file than is on disk is drift, whoever changed the file.
            Judged are its unit file and drop-ins as declared here, those of its template, and
            O(controls[].units[].restart_on). What each running unit was started with is noted in
            C(/var/lib/nusy/started), for root only. Without root a file that changed after the
            start makes the control C(unknown).
          - To stop, disable or mask what people get into the node by (the SSH server, what configures the
            network) and to start or enable a firewall needs O(confirm).
          - A unit that is wanted active and whose conditions do not hold here is C(unknown), with
            the condition named (systemd 250 or later).
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description:
              - Full name with its suffix, or C(name | alternative). Of several the one that runs, or
                is installed, is the one that is judged.
            type: str
            required: true
          enabled:
            description: Started at boot.
            type: bool
          active:
            description:
              - Running now. With V(false) also one that systemd would start again by itself is stopped.
              - A service of type C(oneshot) without C(RemainAfterExit=yes) cannot stay active. It is not started, and
                the run fails at its end.
            type: bool
          masked:
            description: Cannot be started at all, at any boot. A unit that somebody masked is unmasked
              for O(controls[].units[].enabled) or O(controls[].units[].active) only when O(confirm) names it.
              With V(true), a file or link in C(/etc/systemd/system) in the place of the mask is refused.
            type: bool
          content:
            description: Text of C(/etc/systemd/system/<name>).
            type: str
          dropins:
            description: Name (without C(.conf)) to text of drop-ins.
            type: dict
            default: {}
          restart_on:
            description:
              - Further files that it reads when it starts. Another role may declare them; a check cannot
                know what that role is going to change in the same run. Directories are not looked into.
              - Of a quadlet (in C(/etc/containers/systemd)) Podman makes the unit itself, so systemd is told
                when it changes.
            type: list
            elements: str
            default: []
          on_change:
            description:
              - What a running unit gets when one of its files changed. V(reload) is for what the service
                reads; a changed unit file or drop-in needs a restart and gets it. With V(none) nobody
                judges what it runs with.
            type: str
            choices: [restart, reload, none]
            default: restart
          rollback:
            description:
              - When it does not start after files of this document that it reads have changed - its unit file, its
                drop-ins, and those of O(controls[].units[].restart_on) that are declared here - these get back the
                contents with which it last ran, it is started again, and the run fails with what did not start.
                The next run tries again. The contents are kept in C(/var/lib/nusy/former), for root alone.
            type: bool
            default: false
          trial:
            description:
              - A command, as a list of words, that must succeed before the running unit is stopped for a restart. Only
                with O(controls[].units[].rollback); where it fails the files go back, and nothing is stopped.
            type: list
            elements: str
            default: []
      assertions:
        description:
          - Truths that the role sees with another module but cannot make. A drifted one makes
            a real run fail at its end, after everything else is applied.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: What is asserted, as the key of before and after.
            type: str
            required: true
          state:
            description: The verdict.
            type: str
            choices: [in_sync, drifted, unknown]
            required: true
          found:
            description: What was found.
            type: str
            default: ""
          wanted:
            description: What was wanted.
            type: str
            default: ""
          reason:
            description: One sentence; shown in the report.
            type: str
            default: ""
          fix:
            description: What the operator has to do.
            type: str
            default: ""
      inputs:
        description:
          - What the operator declared, for a control whose resources follow from what was found on
            the node. RV(controls[].cause) is judged by it instead of by the resources.
          - Everything that a change of the declaration could change belongs in it.
        type: dict
        default: {}
  skip_controls:
    description:
      - Ids of controls to leave alone. They are reported as C(not_selected).
      - In a file of fragments the lines of a skipped control stay as they are found, where they
        are found - its lines to the letter, and any line that sets one of its names (what stands
        before the first C(=)) to another value. Missing ones are not added.
      - With C(<role>/file_extra) lines that nobody declares stay where they are.
    type: list
    elements: str
    default: []
  confirm:
    description:
      - Victims the operator allows to be touched - package, account, unit or module names and
        paths, exactly as C(blocked_by) of an earlier result lists them.
      - A name may have its kind before it (V(package:), V(user:), V(group:), V(unit:), V(module:) or V(path:)), and
        must have it where steps on things of two kinds would need the same name.
    type: list
    elements: str
    default: []
  secrets:
    description:
      - Values for C(${secret:name}) references. Never shown; at least 4 characters each.
      - A line end at the end is dropped, since the line of the reference has its own.
    type: dict
    default: {}
  install_recommends:
    description: Also install what packages recommend.
    type: bool
    default: false
  packages_first:
    description:
      - Ensure the packages of all controls before everything else of the document, in one transaction.
      - Only for a document of which no package needs something of an earlier control at its own installation, such as
        a source, an account or a file that its scripts read.
    type: bool
    default: false
  systems:
    description:
      - What the document is made for, as C(ID) of C(/etc/os-release) or, for one release of it, C(ID) and C(VERSION_ID)
        (C(debian 13)). What only resembles it (C(ID_LIKE)) is another system. Empty means any.
      - On another one every control is C(unknown), and a real run changes nothing and fails.
    type: list
    elements: str
    default: []
  expects:
    description: Values of the caller, judged before anything is looked at. The first that does not fit is refused.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What the error calls it, such as the name of a variable.
        type: str
        required: true
      value:
        description: The value. Of a list each item is judged.
        type: raw
        required: true
      least:
        description: The lowest whole number that fits.
        type: int
      most:
        description: The highest whole number that fits.
        type: int
      pattern:
        description: A regular expression of Python that fits the whole value.
        type: str
      wanted:
        description: What fits, in words for the error.
        type: str
        required: true
notes:
  - A real run that ends well leaves C(/var/lib/nusy/applied/<role>.json), from which later checks
    tell whether the node or the declaration moved.
  - Every real run leaves its options, without secrets and for root alone, in
    C(/var/lib/nusy/declared/<role>.json), so that C(spark-ensure-state) can judge the node on the node.
  - Looking needs no root for most things; what needs it is C(unknown) without. Applying needs root.
  - Packages are managed on systems with dpkg. On others such controls are C(unknown).
author:
  - The nusy.dgx_spark maintainers (@nusy)
"""

EXAMPLES = r"""
- name: Ensure the log folder and the service that fills it
  nusy.dgx_spark.ensure_state:
    role: example
    confirm: "{{ example_confirm }}"
    controls:
      - id: example/folder
        directories:
          - {path: /srv/example, owner: nusy, group: nusy, mode: "0750"}
      - id: example/service
        packages: [chrony]
        files:
          - path: /etc/chrony/conf.d/example.conf
            content: |
              makestep 1 3
        units:
          - name: chrony.service
            enabled: true
            active: true
            restart_on: [/etc/chrony/conf.d/example.conf]
"""

RETURN = r"""
controls:
  description: One verdict for each control. See docs/contracts/evidence.md.
  returned: always, also with a failed run that got as far as looking
  type: list
  elements: dict
  contains:
    id:
      description: Id of the control.
      type: str
    state:
      description: What was found - C(in_sync), C(drifted), C(unknown) or C(not_selected).
      type: str
    before:
      description: Differing properties as found.
      type: dict
    after:
      description: The same properties as declared.
      type: dict
    reason:
      description: One line; always there for C(unknown) and C(not_selected).
      type: str
    blocked_by:
      description: The variable and value that would allow the step, empty when not blocked.
      type: str
    cause:
      description: Who moved - C(corrective), C(intentional), C(never_applied), C(blocked), C(adopted) or empty.
      type: str
left:
  description:
    - The controls as a failed real run left them, of the same shape as RV(controls).
    - A control that is C(drifted) in RV(controls) and C(in_sync) in here was repaired before the failure.
      What could not be looked at then is C(unknown).
  returned: when a real run fails after it has looked
  type: list
  elements: dict
plan:
  description: The steps, in order, that were or would be done.
  returned: always
  type: list
  elements: str
assumptions:
  description:
    - What the plan relies on and this document does not declare. The control that relies on it has it as
      a reason, too.
  returned: always
  type: list
  elements: str
refused:
  description: Why a real run stops before its first step, since it would certainly fail half-way.
  returned: when there is such a reason
  type: list
  elements: str
  sample: ["demo/account: gid 4700 belongs to bob"]
unused_confirm:
  description:
    - Names in O(confirm) that no step asked for. What was done needs its name no more; one that
      is close to a victim that blocks a control is also pointed out in the reason of that control.
  returned: when there are such names
  type: list
  elements: str
error:
  description: The four parts of an error and its key.
  returned: on failure
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.nusy.dgx_spark.plugins.module_utils._core.entry import ensure
from ansible_collections.nusy.dgx_spark.plugins.module_utils._state.subject import MODULE


def main() -> None:
    ensure(MODULE, AnsibleModule)


if __name__ == "__main__":
    main()
