/*
 * Stands between the program and the C library (LD_PRELOAD): records what becomes of one folder's files, makes calls fail, lets the
 * disk be full and moves the clock.
 *
 * FAULTS_FOLDER   the folder, an absolute path; calls on other files pass
 * FAULTS_CONTROL  the file whose numbers say what to do; they may change at any time
 * FAULTS_RECORD   the file that the record goes to, if there is to be one
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

/* The calls that can fail, syncs of the main file also apart from others; the order is that of the control file. */
enum { WRITE, READ, SYNC, SYNC_MAIN, TRUNCATE, OPEN, ACCEPT, CALLS };

/* As `errno` of a call that is to fail: the process is to end there, as by SIGKILL. */
#define DIES -1

struct call {
    _Atomic int64_t seen; /* calls so far */
    int64_t from, to;     /* those of these numbers fail, `to` not included */
    int64_t error;        /* with this `errno` */
    _Atomic int64_t failed;
};

struct control {
    struct call calls[CALLS];
    int64_t quota;    /* bytes that the folder may hold; 0: no limit */
    int64_t clock_ms; /* what the time of day is ahead by */
};

/* What the record is made of. */
enum { OPENED = 1, MADE, WRITTEN, CUT, SYNCING, SYNCED, SYNC_FAILED, UNLINKED, RENAMED, FOLDER_MADE };

struct entry {
    uint32_t kind, length; /* of the bytes behind it: a name, or what was written */
    uint64_t handle, offset;
};

#define MAIN_FILE "switchboard.db"
#define FILES 65536
/* A name below the folder; "" is the folder itself, ".." the one that it lies in. */
struct file {
    uint64_t handle; /* 0: none of ours */
    int owed;        /* the error that another handle's failed sync has left to tell here */
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

/* Cuts off what a process that was killed amid its entry has left, so that the next entry begins where one ends. */
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

/* Whether this call is one that is to fail; `errno` is set then. */
static int fails(int which) {
    if (!control) return 0;
    struct call *call = &control->calls[which];
    int64_t number = atomic_fetch_add(&call->seen, 1);
    if (number < call->from || number >= call->to) return 0;
    atomic_fetch_add(&call->failed, 1);
    if (call->error == DIES) {
        /* Not amid another thread's entry; around a sync the lock is held already. */
        if (which != SYNC && which != SYNC_MAIN) pthread_mutex_lock(&lock);
        kill(getpid(), SIGKILL);
    }
    errno = (int)call->error;
    return 1;
}

/* The name of a path that is ours, else NULL. */
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

/* SQLite's shared memory is made anew after a crash, whatever is in its file. */
static int is_recorded(const char *name) {
    return record >= 0 && !ends_with(name, "-shm");
}

/* Adds to the record; the lock is held. */
static void note(const char *name, uint32_t kind, uint64_t handle, uint64_t offset, const void *bytes, size_t length) {
    if (!is_recorded(name)) return;
    struct entry entry = {kind, (uint32_t)length, handle, offset};
    struct iovec parts[] = {{&entry, sizeof entry}, {(void *)bytes, length}};
    /* Against a process that looks for torn entries as it starts. */
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
        file->owed = 0;
        strncpy(file->name, name, sizeof file->name - 1);
        note(name, is_new ? MADE : OPENED, file->handle, 0, name, strlen(name));
        if (flags & O_TRUNC) note(name, CUT, file->handle, 0, NULL, 0);
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

/* How much of a write the quota has room for: a full disk takes the beginning of one first. -1 and ENOSPC when it is nothing. */
static ssize_t room_for(int fd, size_t length, off64_t offset) {
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
    ssize_t done = room_for(fd, length, offset);
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
    if (done == 0) note(file->name, CUT, file->handle, (uint64_t)length, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}

int ftruncate(int fd, off_t length) {
    return ftruncate64(fd, length);
}

/* The error is owed to each other who has the file open: the kernel tells of a failed sync once to each of them. */
static int fails_to_sync(struct file *file) {
    if (!fails(SYNC) && !(strcmp(file->name, MAIN_FILE) == 0 && fails(SYNC_MAIN))) return 0;
    int error = errno;
    for (size_t other = 0; other < FILES; other++)
        if (files[other].handle && &files[other] != file && strcmp(files[other].name, file->name) == 0) files[other].owed = error;
    errno = error;
    return 1;
}

static int sync_any(int fd, int (*real)(int)) {
    struct file *file = file_of(fd);
    if (!file) return real(fd);
    pthread_mutex_lock(&lock);
    note(file->name, SYNCING, file->handle, 0, NULL, 0);
    if (fails_to_sync(file)) {
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
    int owed = file->owed;
    file->owed = 0;
    pthread_mutex_unlock(&lock);
    if (!owed) return 0;
    errno = owed;
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
    if (done == 0 && name && *name == 0) note(name, FOLDER_MADE, 0, 0, NULL, 0);
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
