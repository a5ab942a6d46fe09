"""What failures on this machine mean, of its disk, files, memory and processes, and what a person can do. Pure."""

from __future__ import annotations

from recovery.policies.sentence import Sentence

OUTPUT = "Look at the last lines of its output, if any."
PROGRAM = "Report it to the authors of the program: it is a mistake in it, or in what it was given."
MORE_MEMORY = "Close other programs, or use less at once (a smaller model, a smaller batch)."
SPACE = "Free some space[, at least {short},][ on the disk of {folder}]."
IN_THE_WAY = "Look at what is there, and move it away."
RIGHTS = "Give this user the right to read and write it."
FREE = "It goes on by itself once that is free."
ROOM = "It goes on by itself once there is room."
WANTED = "Decide whether it is still wanted."
ANSWERED = "It goes on by itself once that is answered."

LOCAL_SENTENCES: dict[str, Sentence] = {
    key: Sentence(*texts)
    for key, *texts in (
        ("disk-full", "the disk is full[: {size} more are needed in {folder}]", SPACE, ROOM),
        ("little-room", "there is too little room on the disk[ of {folder}][: {size} are needed, {free} are free]",
         SPACE, ROOM),
        ("quota", "the disk quota is used up[: {size} more are needed in {folder}]",
         "Delete files of this user, or ask for a larger quota.", ROOM),
        ("never-fits", "the file does not fit on the disk[: {size} more are needed in {folder}]", "Use a larger disk."),
        ("file-too-large", "the file is too large for the disk",
         "Use a disk with another file system: FAT32, for one, holds no file of 4 GB."),
        ("read-only", "the disk is read-only", "Make the disk writable, or choose a folder on another one."),
        ("device", "the device cannot be read or written", "Check the disk and its cable: it may be failing."),
        ("drive-lost", "the network drive lost the file", "Check that the network drive is connected."),
        ("files-open", "too many files are open", "Close other programs, or raise the limit of open files.", FREE),
        ("memory", "there is no memory left", MORE_MEMORY, "It goes on by itself once there is memory."),
        ("gpu-memory", "the GPU's memory is full", MORE_MEMORY, "It goes on by itself once there is memory."),
        ("gpu-missing", "there is no GPU or driver here that fits",
         "Install the driver of the GPU, and a build of the program that suits it."),
        ("gpu-poisoned", "the GPU takes no more work until the program that uses it is restarted",
         "Restart that program."),
        ("in-use", "the file or device is in use at the moment[: {path}]", "Close the program that uses it.", FREE),
        ("lock", "the file cannot be locked", "Choose a folder on a disk of this machine.", FREE),
        ("port-taken", "the port[ {port}] is taken",
         "End the program that has it[, process {process}], or choose another port in your program or plan.", FREE),
        ("not-there", "there is no such file or folder[: {path}]",
         "Check the path: it may have been moved or deleted."),
        ("no-folder", "a part of the path is not a folder[: {path}]", "Check the path."),
        ("is-folder", "a folder stands where a file is expected[: {path}]", "Give the path of a file."),
        ("exists", "a file or folder of that name exists already[: {path}]", IN_THE_WAY),
        ("not-empty", "the folder is not empty[: {path}]", IN_THE_WAY),
        ("not-allowed", "access to a file or folder is not allowed[: {path}]", RIGHTS),
        ("links", "the links of the path go in a circle[: {path}]", "Remove one of the links."),
        ("long-name", "the name is too long", "Choose a shorter name, or a folder with a shorter path."),
        ("long-command", "the list of arguments is too long", "Give fewer files at once."),
        ("other-disk", "the file lies on another disk", "Choose folders that lie on one disk."),
        ("no-device", "there is no such device", "Check that the device is connected."),
        ("unsafe-file", "something else stands where a plain file is expected", IN_THE_WAY),
        ("cannot-execute", "the command cannot be executed[ (exit code {code})]",
         "Check that the file is a program for this machine, and may be executed."),
        ("no-command", "there is no such command[ (exit code {code})]", "Install the command, or correct its name."),
        ("command-failed", "the command failed[ (exit code {code})]", OUTPUT),
        ("silent", "the command did nothing for too long", f"{OUTPUT} If it is only slow, allow more time."),
        ("killed", "the process was killed[ ({signal})]",
         f"The system does that when the memory is full. {MORE_MEMORY}"),
        ("stopped", "the process was stopped[ ({signal})]", "A person or another program stopped it."),
        ("crashed", "the process crashed[ ({signal})]", f"{OUTPUT} {PROGRAM}"),
        ("server-ended", "the server ended by itself", OUTPUT),
        ("program", "the program or its input is wrong", PROGRAM),
        ("misused", "the program or its settings are wrong", "Correct the settings that the message names."),
        ("task-retries", "the queue's own retries of the task are used up", "Look at the failures before it."),
        ("import", "a module[ ({module})] cannot be imported", "Install the package that the module belongs to."),
        ("module-missing", "something is not installed here[: the Python module {module}]",
         "Install the package that the module belongs to."),
        ("recursion", "the program calls itself without end", PROGRAM),
        ("not-made", "the program cannot do that", PROGRAM),
        ("interpreter", "the interpreter failed", PROGRAM),
        ("data-ended", "the data ended too early", "Check the file or the connection that it came from."),
        ("cancelled", "the work was cancelled", WANTED),
        ("login-expired", "a token has run out, and is renewed", "Log in again, if it is not renewed."),
        ("unknown", "an unknown error", "Read what the message says."),
        ("unclassified", "an error that was not classified", "Read what the message says."),
        ("classifier", "a classifier of the program decided", PROGRAM),
        ("retry-on", "the setting retry_on decided", PROGRAM),
        ("retry-if-error", "the setting retry_if_error decided", PROGRAM),
        ("retry-if", "the result is one to try again", "Look at the result: the program does not accept it."),
        ("no-use", "the program says that trying again is no use", "Read what it says, and correct that."),
        ("may-help", "the program says that trying again may help", "Read what it says."),
        ("person", "a person must do something first", "Do what it asks for.", ANSWERED),
        ("rejected", "a call inside it was not allowed to begin", "Look at what that call waits for."),
        ("joined", "another process ran an equal call, and recorded no result", "Look at that process."),
        # Of a category, where the rule says no more.
        ("transient", "the attempt failed for the moment[ ({rule})]", "Read what the message says."),
        ("unreachable", "the other side was not reached[ ({rule})]", "Check the network connection."),
        ("rate_limited", "the server wants fewer requests[ ({rule})][, and a wait of {wait}]",
         "Start fewer things at once.", "It is tried again by itself; an earlier try would probably be refused."),
        ("environment", "something on this machine is in the way[ ({rule})]",
         "Read what the message says, and change that.", FREE),
        ("auth", "a login is needed, or a right[ ({rule})]", "Log in, or ask for the right.", ANSWERED),
        ("lost", "the process that did it ended too early[ ({rule})]", OUTPUT),
        ("permanent", "the request is refused[ ({rule})]", "Read what the message says, and correct that."),
        ("exhausted", "a call inside it failed[: {rule}]", "Look at what that call says."),

    )
}  # fmt: skip
"""By the name of the cause."""
