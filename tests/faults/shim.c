/*
 * Fault injection with LD_PRELOAD: records the changes of the files in one folder, makes calls
 * fail, simulates a full disk and moves the clock.
 *
 * FAULTS_FOLDER   the absolute path of the folder; calls on other files are not affected
 * FAULTS_CONTROL  the file with the `struct control`, which can change at any time
 * FAULTS_RECORD   the file that the record is appended to; optional
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* The calls that can fail, in the order of the control file. SYNC counts all syncs, SYNC_MAIN those
 * of the database file. */
enum { WRITE, READ, SYNC, SYNC_MAIN, TRUNCATE, OPEN, ACCEPT, CALLS };

/* An `errno` that kills the process instead of making the call fail. */
#define KILL_PROCESS -1

struct call {
    _Atomic int64_t seen; /* number of calls so far */
    int64_t from, to;     /* calls from `from` up to, not including, `to` fail */
    int64_t error;        /* the `errno` of the failed calls */
    _Atomic int64_t failed;
};

struct control {
    struct call calls[CALLS];
    int64_t quota;    /* the bytes that the folder may hold, or 0 for no limit */
    int64_t clock_ms; /* is added to the time of day */
};

/* The kinds of entries of the record. */
enum { OPENED = 1, CREATED, WRITTEN, TRUNCATED, SYNCING, SYNCED, SYNC_FAILED, UNLINKED, RENAMED, FOLDER_CREATED };

struct entry {
    uint32_t kind, length; /* of the bytes after the entry: a name, or written data */
    uint64_t handle, offset;
};

#define MAIN_FILE "switchboard.db"
#define FILES 65536
/* An open file. `name` is relative to the folder; "" is the folder itself, ".." its parent. */
struct file {
    uint64_t handle; /* 0 if the file is not in the folder */
    /* The `errno` that the next sync returns, because a sync of another handle failed. */
    int pending_error;
    char name[64];
};

static struct file files[FILES];
static uint64_t last_handle;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *folder;
static size_t folder_length;
static struct control *control;
static int record = -1;

#define REAL(result, name, ...) \
    static result (*real_##name)(__VA_ARGS__); \
    static result (*find_##name(void))(__VA_ARGS__) { \
        if (!real_##name) *(void **)&real_##name = dlsym(RTLD_NEXT, #name); \
        return real_##name; \
    }

REAL(int, open, const char *, int, ...)
REAL(int, close, int)
REAL(ssize_t, write, int, const void *, size_t)
REAL(ssize_t, writev, int, const struct iovec *, int)
REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t)
REAL(ssize_t, pread64, int, void *, size_t, off64_t)
REAL(ssize_t, read, int, void *, size_t)
REAL(int, ftruncate64, int, off64_t)
REAL(int, fsync, int)
REAL(int, fdatasync, int)
REAL(int, unlink, const char *)
REAL(int, rename, const char *, const char *)
REAL(int, mkdir, const char *, mode_t)
REAL(int, accept4, int, struct sockaddr *, socklen_t *, int)
REAL(int, clock_gettime, clockid_t, struct timespec *)
REAL(int, gettimeofday, struct timeval *, void *)

/* Truncates an incomplete entry at the end of the record, which a killed process can leave. */
static void drop_torn(int fd) {
    struct stat status;
    struct entry entry;
    off64_t at = 0;
    if (flock(fd, LOCK_EX) || fstat(fd, &status)) abort();
    while (at < status.st_size) {
        ssize_t head = find_pread64()(fd, &entry, sizeof entry, at);
        off64_t end = at + (off64_t)sizeof entry + entry.length;
        if (head != (ssize_t)sizeof entry || end > status.st_size) {
            if (find_ftruncate64()(fd, at)) abort();
            break;
        }
        at = end;
    }
    flock(fd, LOCK_UN);
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTS_FOLDER");
    const char *numbers = getenv("FAULTS_CONTROL");
    const char *recorded = getenv("FAULTS_RECORD");
    if (!path || !numbers) return;
    folder_length = strlen(path);
    folder = path;
    int file = find_open()(numbers, O_RDWR | O_CLOEXEC);
    if (file < 0) abort();
    void *mapped = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED) abort();
    find_close()(file);
    if (recorded) {
        record = find_open()(recorded, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (record < 0) abort();
        drop_torn(record);
    }
    control = mapped;
}

/* Whether the next call of this kind fails. Sets `errno` then. */
static int fails(int which) {
    if (!control) return 0;
    struct call *call = &control->calls[which];
    int64_t number = atomic_fetch_add(&call->seen, 1);
    if (number < call->from || number >= call->to) return 0;
    atomic_fetch_add(&call->failed, 1);
    if (call->error == KILL_PROCESS) {
        /* Waits until no thread writes an entry. The lock is already held around a sync. */
        if (which != SYNC && which != SYNC_MAIN) pthread_mutex_lock(&lock);
        kill(getpid(), SIGKILL);
    }
    errno = (int)call->error;
    return 1;
}

/* The name of a path in the folder, else NULL. */
static const char *name_of(const char *path) {
    if (!control) return NULL;
    if (strncmp(path, folder, folder_length) == 0) {
        if (path[folder_length] == 0) return "";
        if (path[folder_length] == '/') return path + folder_length + 1;
    }
    const char *last = strrchr(folder, '/');
    size_t parent = (size_t)(last - folder);
    return strlen(path) == parent && strncmp(path, folder, parent) == 0 ? ".." : NULL;
}

static struct file *file_of(int fd) {
    return fd >= 0 && fd < FILES && files[fd].handle ? &files[fd] : NULL;
}

static int ends_with(const char *name, const char *end) {
    size_t length = strlen(name), tail = strlen(end);
    return length >= tail && strcmp(name + length - tail, end) == 0;
}

/* SQLite rebuilds its shared memory file after a crash, so its content does not matter. */
static int is_recorded(const char *name) {
    return record >= 0 && !ends_with(name, "-shm");
}

/* Appends an entry to the record. The caller holds the lock. */
static void note(const char *name, uint32_t kind, uint64_t handle, uint64_t offset, const void *bytes, size_t length) {
    if (!is_recorded(name)) return;
    struct entry entry = {kind, (uint32_t)length, handle, offset};
    struct iovec parts[] = {{&entry, sizeof entry}, {(void *)bytes, length}};
    /* A starting process may be looking for incomplete entries. */
    if (flock(record, LOCK_EX)) abort();
    if (find_writev()(record, parts, 2) != (ssize_t)(sizeof entry + length)) abort();
    flock(record, LOCK_UN);
}

static int open_any(const char *path, int flags, mode_t mode) {
    const char *name = name_of(path);
    if (!name) return find_open()(path, flags, mode);
    if (fails(OPEN)) return -1;
    pthread_mutex_lock(&lock);
    struct stat status;
    int is_new = flags & O_CREAT && stat(path, &status) != 0;
    int fd = find_open()(path, flags, mode);
    if (fd >= 0 && fd < FILES) {
        struct file *file = &files[fd];
        file->handle = (uint64_t)getpid() << 32 | ++last_handle;
        file->pending_error = 0;
        strncpy(file->name, name, sizeof file->name - 1);
        note(name, is_new ? CREATED : OPENED, file->handle, 0, name, strlen(name));
        if (flags & O_TRUNC) note(name, TRUNCATED, file->handle, 0, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

static mode_t mode_of(int flags, va_list arguments) {
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

#define OPEN_AS(name) \
    int name(const char *path, int flags, ...) { \
        va_list arguments; \
        va_start(arguments, flags); \
        mode_t mode = mode_of(flags, arguments); \
        va_end(arguments); \
        return open_any(path, flags, mode); \
    }
OPEN_AS(open)
OPEN_AS(open64)

int close(int fd) {
    struct file *file = file_of(fd);
    if (file) {
        pthread_mutex_lock(&lock);
        file->handle = 0;
        pthread_mutex_unlock(&lock);
    }
    return find_close()(fd);
}

static int64_t bytes_in_folder(void) {
    int64_t all = 0;
    DIR *opened = opendir(folder);
    struct dirent *found;
    while (opened && (found = readdir(opened))) {
        struct stat status;
        if (fstatat(dirfd(opened), found->d_name, &status, 0) == 0 && S_ISREG(status.st_mode)) all += status.st_size;
    }
    if (opened) closedir(opened);
    return all;
}

/* The bytes of a write that the quota allows. Like a full disk, the quota first allows a partial
 * write. Returns -1 and ENOSPC if it allows none. */
static ssize_t allowed_length(int fd, size_t length, off64_t offset) {
    struct stat status;
    int64_t end = offset + (int64_t)length;
    if (!control->quota || fstat(fd, &status) != 0 || end <= status.st_size) return (ssize_t)length;
    int64_t most = status.st_size + control->quota - bytes_in_folder();
    if (end <= most) return (ssize_t)length;
    if (most > offset) return most - offset;
    errno = ENOSPC;
    return -1;
}

static ssize_t write_at(int fd, const void *bytes, size_t length, off64_t offset, int is_positioned) {
    struct file *file = file_of(fd);
    if (!file) return is_positioned ? find_pwrite64()(fd, bytes, length, offset) : find_write()(fd, bytes, length);
    if (fails(WRITE)) return -1;
    pthread_mutex_lock(&lock);
    if (!is_positioned) offset = lseek64(fd, 0, SEEK_CUR);
    ssize_t done = allowed_length(fd, length, offset);
    if (done >= 0) done = is_positioned ? find_pwrite64()(fd, bytes, (size_t)done, offset) : find_write()(fd, bytes, (size_t)done);
    if (done > 0) note(file->name, WRITTEN, file->handle, (uint64_t)offset, bytes, (size_t)done);
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t write(int fd, const void *bytes, size_t length) {
    return write_at(fd, bytes, length, 0, 0);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    return write_at(fd, bytes, length, offset, 1);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    return write_at(fd, bytes, length, offset, 1);
}

ssize_t pread64(int fd, void *bytes, size_t length, off64_t offset) {
    return file_of(fd) && fails(READ) ? -1 : find_pread64()(fd, bytes, length, offset);
}

ssize_t read(int fd, void *bytes, size_t length) {
    return file_of(fd) && fails(READ) ? -1 : find_read()(fd, bytes, length);
}

int ftruncate64(int fd, off64_t length) {
    struct file *file = file_of(fd);
    if (!file) return find_ftruncate64()(fd, length);
    if (fails(TRUNCATE)) return -1;
    pthread_mutex_lock(&lock);
    int done = find_ftruncate64()(fd, length);
    if (done == 0) note(file->name, TRUNCATED, file->handle, (uint64_t)length, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}

int ftruncate(int fd, off_t length) {
    return ftruncate64(fd, length);
}

/* Like the kernel, a failed sync is reported once to each open handle of the file. */
static int fails_sync(struct file *file) {
    if (!fails(SYNC) && !(strcmp(file->name, MAIN_FILE) == 0 && fails(SYNC_MAIN))) return 0;
    int error = errno;
    for (size_t other = 0; other < FILES; other++)
        if (files[other].handle && &files[other] != file && strcmp(files[other].name, file->name) == 0) files[other].pending_error = error;
    errno = error;
    return 1;
}

static int sync_any(int fd, int (*real)(int)) {
    struct file *file = file_of(fd);
    if (!file) return real(fd);
    pthread_mutex_lock(&lock);
    note(file->name, SYNCING, file->handle, 0, NULL, 0);
    if (fails_sync(file)) {
        int error = errno;
        note(file->name, SYNC_FAILED, file->handle, 0, NULL, 0);
        pthread_mutex_unlock(&lock);
        errno = error;
        return -1;
    }
    pthread_mutex_unlock(&lock);
    if (real(fd) != 0) return -1;
    pthread_mutex_lock(&lock);
    note(file->name, SYNCED, file->handle, 0, NULL, 0);
    int pending = file->pending_error;
    file->pending_error = 0;
    pthread_mutex_unlock(&lock);
    if (!pending) return 0;
    errno = pending;
    return -1;
}

int fsync(int fd) {
    return sync_any(fd, find_fsync());
}

int fdatasync(int fd) {
    return sync_any(fd, find_fdatasync());
}

int unlink(const char *path) {
    const char *name = name_of(path);
    if (!name) return find_unlink()(path);
    pthread_mutex_lock(&lock);
    int done = find_unlink()(path);
    if (done == 0) note(name, UNLINKED, 0, 0, name, strlen(name));
    pthread_mutex_unlock(&lock);
    return done;
}

int rename(const char *from, const char *to) {
    const char *old_name = name_of(from), *new_name = name_of(to);
    if (!old_name || !new_name) return find_rename()(from, to);
    char names[256] = {0};
    size_t length = strlen(old_name) + 1 + strlen(new_name);
    if (length >= sizeof names) abort();
    strcpy(names, old_name);
    strcpy(names + strlen(old_name) + 1, new_name);
    pthread_mutex_lock(&lock);
    int done = find_rename()(from, to);
    if (done == 0) note(new_name, RENAMED, 0, 0, names, length);
    pthread_mutex_unlock(&lock);
    return done;
}

int mkdir(const char *path, mode_t mode) {
    const char *name = name_of(path);
    pthread_mutex_lock(&lock);
    int done = find_mkdir()(path, mode);
    if (done == 0 && name && *name == 0) note(name, FOLDER_CREATED, 0, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags) {
    return fails(ACCEPT) ? -1 : find_accept4()(fd, address, length, flags);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int done = find_clock_gettime()(clock, time);
    if (done == 0 && clock == CLOCK_REALTIME && control) {
        int64_t nanos = time->tv_sec * 1000000000 + time->tv_nsec + control->clock_ms * 1000000;
        time->tv_sec = nanos / 1000000000;
        time->tv_nsec = nanos % 1000000000;
    }
    return done;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    int done = find_gettimeofday()(time, zone);
    if (done == 0 && control) {
        int64_t micros = time->tv_sec * 1000000 + time->tv_usec + control->clock_ms * 1000;
        time->tv_sec = micros / 1000000;
        time->tv_usec = micros % 1000000;
    }
    return done;
}
