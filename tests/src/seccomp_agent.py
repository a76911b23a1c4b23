# SPDX-License-Identifier: Apache-2.0
"""An agent for seccomp listeners: says what it is told, refuses mkdir, lets everything else go on.

seccomp_agent.py SOCKET; it prints "ready", and then a line for each listener.
"""
import array, errno, fcntl, json, os, select, socket, struct, sys, threading

NOTIF_RECV, NOTIF_SEND, CONTINUE = 0xC0502100, 0xC0182101, 1
# The calls that make a directory: AUDIT_ARCH_* and number.
MKDIR = {(0xC000003E, 83), (0xC000003E, 258), (0xC00000B7, 34)}


def answer(listener):
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while True:
        if any(event & select.POLLHUP for _, event in poll.poll()):
            return os.close(listener)
        try:
            call = fcntl.ioctl(listener, NOTIF_RECV, bytes(80))
            identity, number, arch = struct.unpack_from("=Q8xiI", call)
            refused = (arch, number) in MKDIR
            error, flags = (-errno.ENOMEDIUM, 0) if refused else (0, CONTINUE)
            fcntl.ioctl(listener, NOTIF_SEND, struct.pack("=QqiI", identity, 0, error, flags))
        except OSError as failure:
            if failure.errno not in (errno.ENOENT, errno.EINTR):
                raise


def serve(path):
    server = socket.socket(socket.AF_UNIX)
    server.bind("\0" + path[1:] if path.startswith("@") else path)
    server.listen()
    print("ready", flush=True)
    while True:
        connection, _ = server.accept()
        told, control, _, _ = connection.recvmsg(1 << 16, 1024)
        received = array.array("i")
        for _, _, data in control:
            received.frombytes(data[: len(data) // received.itemsize * received.itemsize])
        while more := connection.recv(1 << 16):
            told += more
        links = [os.readlink(f"/proc/self/fd/{fd}") for fd in received]
        threading.Thread(target=answer, args=(received[0],), daemon=True).start()
        print(json.dumps({"told": json.loads(told), "descriptors": links}), flush=True)


serve(sys.argv[1])
