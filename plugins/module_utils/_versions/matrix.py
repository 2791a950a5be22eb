# SPDX-License-Identifier: GPL-3.0-or-later
"""The version matrix: which versions are known to work on a DGX Spark, which are known not to, and who says so.

Data. A site adds to it, or has it otherwise, with ``spark_version_matrix``. ``docs/version-matrix.md``
is made of it. Who measured nothing says ``unmeasured``: one report of one machine is worth a
look and no verdict.

Private to nusy.dgx_spark: other collections must not import this.
"""

from __future__ import annotations

from ansible_collections.nusy.dgx_spark.plugins.module_utils._versions.model import (
    EVERY,
    FOUNDERS,
    KNOWN_BAD,
    KNOWN_GOOD,
    SPARK,
    UNMEASURED,
    Row,
)

ROWS = (
    # --- kernel -----------------------------------------------------------------------------
    Row(
        "kernel_6_14_since_1015",
        "kernel",
        ">=6.14.0-1015-nvidia,<6.15",
        KNOWN_GOOD,
        "Runs clusters for months",
        "operators' kits for two and four nodes, 2026",
    ),
    Row(
        "kernel_6_17_0_1008_panics",
        "kernel",
        "==6.17.0-1008-nvidia | ==6.17.0-1008-nvidia-64k",
        KNOWN_BAD,
        "It panics",
        "DGX OS 7.4.0; operators' reports of early 2026",
        "boot 6.17.0-1014-nvidia or newer",
    ),
    Row(
        "kernel_6_17_since_1014",
        "kernel",
        ">=6.17.0-1014-nvidia,<6.18",
        KNOWN_GOOD,
        "DGX OS 7.5.0 and its updates up to 6.17.0-1032",
        "NVIDIA's over-the-air recipes; operators' nodes",
    ),
    Row(
        "kernel_7_0_0_1019_kho",
        "kernel",
        "==7.0.0-1019-nvidia | ==7.0.0-1019-nvidia-64k",
        KNOWN_BAD,
        "Without kho=off its handover memory makes RDMA registration fail (NCCL: ENOMEM)",
        "NVIDIA/NV-Kernels pull requests 590 and 591",
        "boot it with kho=off",
        unless="kho=off",
    ),
    Row(
        "kernel_7_0_0_1019",
        "kernel",
        "==7.0.0-1019-nvidia | ==7.0.0-1019-nvidia-64k",
        KNOWN_GOOD,
        "DGX OS 7.6.0, with kho=off",
        "operators' nodes of September 2026",
    ),
    # --- driver, CUDA, container toolkit ----------------------------------------------------
    Row(
        "driver_before_580",
        "driver",
        "<580",
        KNOWN_BAD,
        "Blackwell needs open kernel modules of branch 580 or newer",
        "NVIDIA driver installation guide",
        "install the open driver of branch 580",
    ),
    Row(
        "driver_580",
        "driver",
        ">=580.126.09,<=580.178.04",
        KNOWN_GOOD,
        "DGX OS 7.4.0 to 7.6.0, open modules as NVIDIA and Canonical build them",
        "NVIDIA's over-the-air recipes; operators' nodes",
    ),
    Row(
        "driver_590_graphs",
        "driver",
        ">=590,<591",
        UNMEASURED,
        "One report of slower CUDA graphs; Ubuntu replaces the branch by 595",
        "forum report; Ubuntu's transitional packages",
    ),
    Row(
        "cuda_12_without_sm_121",
        "cuda",
        "<12.9",
        KNOWN_BAD,
        "Its ptxas does not know sm_121 (PTX 8.8 came with CUDA 12.9)",
        "measured with ptxas 12.4, 12.8, 12.9 and 13.0",
        "use CUDA 13.0 at /usr/local/cuda",
        only=SPARK,
    ),
    Row(
        "cuda_13_0",
        "cuda",
        ">=13.0,<13.1",
        KNOWN_GOOD,
        "The release that NVIDIA verifies on every DGX OS 7",
        "NVIDIA's over-the-air recipes; DGX Spark release notes",
    ),
    Row(
        "container_toolkit_1_18_2",
        "container_toolkit",
        ">=1.18.2,<=1.19.0",
        KNOWN_GOOD,
        "DGX OS 7.4.0 and 7.5.0",
        "NVIDIA's over-the-air recipes",
    ),
    Row(
        "container_toolkit_since_1_19_1",
        "container_toolkit",
        ">=1.19.1,<=1.20.0",
        UNMEASURED,
        "Reports of CUDA that does not start in containers, not only on a Spark",
        "NVIDIA/nvidia-container-toolkit issue 1967",
    ),
    Row(
        "nccl_2_28_9",
        "nccl",
        ">=2.28.9,<2.28.10",
        KNOWN_GOOD,
        "23.7 GB/s between two nodes, against 3.0 of a development build",
        "NVIDIA/dgx-spark-playbooks pull request 103",
    ),
    # --- firmware ---------------------------------------------------------------------------
    Row(
        "connectx_firmware_old",
        "connectx_firmware",
        "<28.45.4028",
        KNOWN_BAD,
        "About 15 GB/s between two nodes in place of 23",
        "operators' measurements; 28.45.4028 is in every over-the-air recipe of DGX OS 7",
        "update the firmware with the over-the-air update of DGX OS, never with mlnx-fw-updater",
        only=SPARK,
    ),
    Row(
        "connectx_firmware_28_45_4028",
        "connectx_firmware",
        "==28.45.4028",
        KNOWN_GOOD,
        "In every over-the-air recipe of DGX OS 7",
        "NVIDIA's over-the-air recipes",
    ),
    Row(
        "uefi_before_1_110_13",
        "uefi",
        "<1.110.13",
        KNOWN_BAD,
        "CVE-2026-47626, CVE-2026-24263, CVE-2026-24262 (8.2), CVE-2026-47624, CVE-2026-24225",
        "NVIDIA security bulletin 5867, 2026-08-25",
        "install the firmware of the over-the-air update of July 2026 or later, with stable power",
        only=FOUNDERS,
    ),
    Row(
        "uefi_since_1_110_13",
        "uefi",
        ">=1.110.13",
        KNOWN_GOOD,
        "No vulnerability is published",
        "NVIDIA security bulletin 5867, 2026-08-25",
        only=FOUNDERS,
    ),
    # --- Python distributions ---------------------------------------------------------------
    Row(
        "torch_2_10_0_hangs",
        "python:torch",
        "==2.10.0",
        KNOWN_BAD,
        "Clusters hang with one node at 100 % and the other at 0 %",
        "eugr/spark-vllm-docker issue 24",
        "lock 2.9.1, or 2.11 or newer",
    ),
    Row(
        "litellm_malicious",
        "python:litellm",
        "==1.82.7 | ==1.82.8",
        KNOWN_BAD,
        "Malicious, steals credentials",
        "MAL-2026-2144, BerriAI/litellm issue 24518",
        "lock another release, and change every credential of a machine that had it",
    ),
    Row(
        "ultralytics_malicious",
        "python:ultralytics",
        "==8.3.41 | ==8.3.42 | ==8.3.45 | ==8.3.46",
        KNOWN_BAD,
        "Malicious, mines coins",
        "ultralytics/ultralytics issues 18027 and 18018",
        "lock another release",
    ),
    Row(
        "torchtriton_malicious",
        "python:torchtriton",
        EVERY,
        KNOWN_BAD,
        "Malicious namesake of a PyTorch dependency, uploads keys",
        "PyTorch notice of 31 December 2022",
        "lock triton, which is the real one",
    ),
)
