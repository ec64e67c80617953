"""Builds the C++ kernels with the package, where there is a compiler; without one the package works on torch alone."""

import os
import re
import runpy
import sysconfig
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface):
    def initialize(self, version, build_data):
        if self.target_name != "wheel" or os.environ.get("MULTIHEAD_NATIVE") == "0":
            return
        kernels = runpy.run_path(str(Path(self.root, "src", "multihead", "native", "build.py")))
        said = kernels["attempt"]()
        self.app.display_info(f"C++ kernels: {said}")
        if kernels["LIBRARY"].exists():
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{re.sub('[-.]', '_', sysconfig.get_platform())}"  # no Python in the library
        build_data["artifacts"].append("src/multihead/native/kernels.*")
