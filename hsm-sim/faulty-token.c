/* A PKCS#11 module with faults: hands everything to the real one, but counts wrong PINs and locks after LIMIT of them, as cards do
 * and SoftHSM does not, and can be pulled at the Nth signature. The count of wrong PINs lasts, in the file STATE; the number of the
 * signature stands in the file PULL. No headers of PKCS#11 are needed: of its function list (v2.40) four entries are replaced. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

typedef unsigned long ulong;
struct list { unsigned char version[2]; void *f[68]; };
enum { GET_FUNCTION_LIST = 3, GET_TOKEN_INFO = 6, LOGIN = 18, SIGN = 43 };
enum { PIN_INCORRECT = 0xA0, PIN_LOCKED = 0xA4, DEVICE_REMOVED = 0x32, GENERAL_ERROR = 0x05 };
enum { FLAGS_AT = 96, COUNT_LOW = 0x10000, FINAL_TRY = 0x20000, LOCKED = 0x40000 };

static struct list faulty;
static struct list *real;
static unsigned signatures;

static unsigned number(const char *path) {
    unsigned found = 0;
    FILE *file = fopen(path, "r");
    if (file) { if (fscanf(file, "%u", &found) != 1) found = 0; fclose(file); }
    return found;
}

static void keep(unsigned wrong) {
    FILE *file = fopen(STATE, "w");
    if (file) { fprintf(file, "%u", wrong); fclose(file); }
}

static ulong login(ulong session, ulong user, unsigned char *pin, ulong length) {
    unsigned wrong = number(STATE);
    if (wrong >= LIMIT) return PIN_LOCKED;
    ulong code = ((ulong (*)(ulong, ulong, unsigned char *, ulong))real->f[LOGIN])(session, user, pin, length);
    if (code == PIN_INCORRECT) keep(wrong + 1);
    if (code == 0) keep(0);
    return code;
}

static ulong get_token_info(ulong slot, unsigned char *info) {
    ulong code = ((ulong (*)(ulong, unsigned char *))real->f[GET_TOKEN_INFO])(slot, info);
    unsigned wrong = number(STATE);
    ulong flags;
    if (code != 0) return code;
    memcpy(&flags, info + FLAGS_AT, sizeof flags);
    if (wrong > 0) flags |= COUNT_LOW;
    if (wrong + 1 == LIMIT) flags |= FINAL_TRY;
    if (wrong >= LIMIT) flags |= LOCKED;
    memcpy(info + FLAGS_AT, &flags, sizeof flags);
    return 0;
}

static ulong sign(ulong session, unsigned char *data, ulong length, unsigned char *out, ulong *out_length) {
    unsigned at = number(PULL);
    /* Asking for the length alone is no signature. */
    if (out != NULL && at != 0 && ++signatures >= at) return DEVICE_REMOVED;
    return ((ulong (*)(ulong, unsigned char *, ulong, unsigned char *, ulong *))real->f[SIGN])(session, data, length, out, out_length);
}

ulong C_GetFunctionList(struct list **out) {
    void *module = dlopen(MODULE, RTLD_NOW | RTLD_LOCAL);
    ulong (*get)(struct list **) = module ? (ulong (*)(struct list **))dlsym(module, "C_GetFunctionList") : NULL;
    if (!get || get(&real) != 0) return GENERAL_ERROR;
    faulty = *real;
    faulty.f[GET_FUNCTION_LIST] = (void *)C_GetFunctionList;
    faulty.f[GET_TOKEN_INFO] = (void *)get_token_info;
    faulty.f[LOGIN] = (void *)login;
    faulty.f[SIGN] = (void *)sign;
    *out = &faulty;
    return 0;
}
