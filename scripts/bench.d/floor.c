// SPDX-License-Identifier: Apache-2.0
/* floor: the least that any container runtime must ask of the kernel; the lower limit in scripts/bench.
 *
 *   floor [-d] ROOTFS CGROUP_DIR|- COMMAND [ARG...]
 *
 * One clone3 into new pid, mount, ipc, uts, network and cgroup namespaces (into a fresh cgroup below CGROUP_DIR,
 * a cgroup v2 directory, unless it is "-"), the default mounts and devices, pivot_root, exec; then it waits and
 * removes the cgroup. -d: return once the command has been executed, and leave it running.
 * No JSON, capabilities, seccomp, masked paths, hooks or state: a real runtime does more and takes longer.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static void mnt(const char *src, const char *dst, const char *type, unsigned long flags, const char *data)
{
    if (mount(src, dst, type, flags, data)) err(125, "mount %s", dst);
}

static void node(const char *path, unsigned major, unsigned minor)
{
    if (mknod(path, S_IFCHR | 0666, makedev(major, minor))) err(125, "mknod %s", path);
}

static void enter(const char *rootfs)
{
    mnt(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL);
    mnt(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL);
    if (chdir(rootfs)) err(125, "chdir %s", rootfs);
    mnt("proc", "proc", "proc", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL);
    mnt("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k");
    mkdir("dev/pts", 0755), mkdir("dev/shm", 0755), mkdir("dev/mqueue", 0755);
    mnt("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620");
    mnt("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NOEXEC | MS_NODEV, "mode=1777,size=65536k");
    mnt("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL);
    mnt("sysfs", "sys", "sysfs", MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY, NULL);
    node("dev/null", 1, 3), node("dev/zero", 1, 5), node("dev/full", 1, 7);
    node("dev/random", 1, 8), node("dev/urandom", 1, 9), node("dev/tty", 5, 0);
    if (symlink("/proc/self/fd", "dev/fd")) err(125, "symlink dev/fd");
    if (syscall(SYS_pivot_root, ".", ".")) err(125, "pivot_root");
    if (umount2(".", MNT_DETACH) || chdir("/") || sethostname("floor", 5)) err(125, "leave the old root");
}

int main(int argc, char **argv)
{
    int detach = argc > 1 && !strcmp(argv[1], "-d"), cgroup = -1, ready[2], status;
    char path[4096];
    argv += detach, argc -= detach;
    if (argc < 4) errx(2, "usage: floor [-d] ROOTFS CGROUP_DIR|- COMMAND [ARG...]");
    struct clone_args args = {.flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWCGROUP,
                              .exit_signal = SIGCHLD};
    if (strcmp(argv[2], "-")) {
        snprintf(path, sizeof path, "%s/floor.%d", argv[2], getpid());
        if (mkdir(path, 0755) || (cgroup = open(path, O_DIRECTORY | O_CLOEXEC)) < 0) err(125, "%s", path);
        args.flags |= CLONE_INTO_CGROUP, args.cgroup = cgroup;
    }
    if (pipe2(ready, O_CLOEXEC)) err(125, "pipe");
    pid_t pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid < 0) err(125, "clone3");
    if (!pid) {
        enter(argv[1]);
        execv(argv[3], argv + 3);
        err(127, "exec %s", argv[3]);
    }
    if (detach) { /* end of file on the pipe: the command was executed */
        close(ready[1]);
        return read(ready[0], path, 1) != 0;
    }
    if (waitpid(pid, &status, 0) < 0) err(125, "wait");
    if (cgroup >= 0 && rmdir(path)) warn("%s", path);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
