"""Ask whether a vulnerability is known of the versions in constraints.txt, and say plainly if nobody could be asked.

    make audit

pip-audit by itself ends with "No known vulnerabilities found" where it could look up no package at all, as it is behind
a mirror of the package index. Exit status: 0, all packages were looked up and nothing is known of them; 1, something
is; 2, some could not be looked up.
"""

import json
import subprocess
import sys


def main(pip_audit: str) -> int:
    command = [pip_audit, "-r", "constraints.txt", "--no-deps", "--disable-pip", "--format", "json"]
    asked = subprocess.run(command, capture_output=True, text=True)
    try:
        packages = json.loads(asked.stdout)["dependencies"]
    except (ValueError, LookupError, TypeError):
        reason = (asked.stderr.strip().splitlines() or ["it says nothing"])[-1]
        print(f"not audited: no index of advisories could be asked ({reason[:200]})")
        return 2
    known = [(package, hole) for package in packages for hole in package.get("vulns", [])]
    for package, hole in known:
        fixed = ", ".join(hole.get("fix_versions", [])) or "no version yet"
        print(f"{package['name']} {package['version']}: {hole['id']}, fixed in {fixed}")
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    if skipped or not packages:
        print(
            f"not audited: {len(skipped)} of {len(packages)} packages are not in the index of advisories that could be "
            f"asked: {', '.join(skipped[:5])}, …"
        )
    elif not known:
        print(f"nothing is known of {len(packages)} packages")
    return 1 if known else 2 if skipped or not packages else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
