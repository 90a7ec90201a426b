# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What our side runs: a process of its own that does what a module does, its start and imports included.

    ours.py WORK < ARGUMENTS      prints {"memory": MEBIBYTES, "results": ...}; both are JSON

WORK is one of C(copy), C(verify), C(sign), C(signatures), C(resign) and C(install). The process is short, as those of
cosign are: nothing that it imports is ever to be collected, so Python need not look for it, neither meanwhile nor
before it ends.
"""

import gc

gc.disable()

if __name__ == "__main__":
    import working

    gc.freeze()
    gc.enable()
    working.main()
    gc.freeze()
