// SPDX-License-Identifier: Apache-2.0

// Package libostree compares pkg/ostree with libostree, which it calls inside
// the process. It is a module of its own because it needs cgo and libostree's
// headers.
package libostree

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/ostreedev/ostree-go/pkg/otbuiltin"
)

// #cgo pkg-config: ostree-1
// #include <stdlib.h>
// #include <ostree.h>
//
// static OstreeRepo *open_repo(const char *path, GError **error) {
//   g_autoptr(GFile) file = g_file_new_for_path(path);
//   OstreeRepo *repo = ostree_repo_new(file);
//   if (!ostree_repo_open(repo, NULL, error)) { g_object_unref(repo); return NULL; }
//   return repo;
// }
//
// static gboolean set_ref(OstreeRepo *repo, const char *ref, const char *checksum, GError **error) {
//   return ostree_repo_set_ref_immediate(repo, NULL, ref, checksum, NULL, error);
// }
//
// static gboolean commit_transaction(OstreeRepo *repo, GError **error) {
//   return ostree_repo_commit_transaction(repo, NULL, NULL, error);
// }
//
// // Verifies every object that the repository lists and gives their number.
// static int fsck_all(OstreeRepo *repo, GError **error) {
//   g_autoptr(GHashTable) objects = NULL;
//   if (!ostree_repo_list_objects(repo, OSTREE_REPO_LIST_OBJECTS_ALL, &objects, NULL, error)) return -1;
//   GHashTableIter iter;
//   gpointer key;
//   g_hash_table_iter_init(&iter, objects);
//   while (g_hash_table_iter_next(&iter, &key, NULL)) {
//     const char *checksum;
//     OstreeObjectType type;
//     ostree_object_name_deserialize(key, &checksum, &type);
//     if (type == OSTREE_OBJECT_TYPE_COMMIT_META) continue;
//     if (!ostree_repo_fsck_object(repo, type, checksum, NULL, error)) return -1;
//   }
//   return g_hash_table_size(objects);
// }
//
// static char *root_checksum(OstreeRepo *repo, const char *commit, GError **error) {
//   g_autoptr(GVariant) v = NULL;
//   if (!ostree_repo_load_commit(repo, commit, &v, NULL, error)) return NULL;
//   return ostree_commit_get_content_checksum(v);
// }
import "C"

func goError(e *C.GError) error {
	if e == nil {
		return errors.New("libostree gives no reason")
	}
	defer C.g_error_free(e)
	return errors.New(C.GoString((*C.char)(unsafe.Pointer(e.message))))
}

// with opens the repository at path and closes it after fn.
func with(path string, fn func(*C.OstreeRepo) error) error {
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	var e *C.GError
	repo := C.open_repo(cpath, &e)
	if repo == nil {
		return fmt.Errorf("open %s with libostree: %w", path, goError(e))
	}
	defer C.g_object_unref(C.gpointer(repo))
	return fn(repo)
}

// Init makes a repository with libostree.
func Init(path, mode string) error {
	o := otbuiltin.NewInitOptions()
	o.Mode = mode
	_, err := otbuiltin.Init(path, o)
	return err
}

// Commit commits a folder to a branch with libostree and gives the checksum.
func Commit(repo, dir, branch string) (string, error) {
	r, err := otbuiltin.OpenRepo(repo)
	if err != nil {
		return "", err
	}
	if _, err := r.PrepareTransaction(); err != nil {
		return "", err
	}
	o := otbuiltin.NewCommitOptions()
	o.Subject = "from libostree"
	sum, err := r.Commit(dir, branch, o)
	if err != nil {
		return "", errors.Join(err, r.AbortTransaction())
	}
	// The binding's own CommitTransaction writes past its statistics. Its Repo hides
	// the native one, but holds nothing else.
	native := *(**C.OstreeRepo)(unsafe.Pointer(r))
	defer C.g_object_unref(C.gpointer(native))
	var e *C.GError
	if C.commit_transaction(native, &e) == 0 {
		return "", goError(e)
	}
	cref, csum := C.CString(branch), C.CString(sum)
	defer C.free(unsafe.Pointer(cref))
	defer C.free(unsafe.Pointer(csum))
	if C.set_ref(native, cref, csum, &e) == 0 {
		return "", goError(e)
	}
	return sum, nil
}

// Checkout checks a commit out with libostree.
func Checkout(repo, commit, dir string, user bool) error {
	o := otbuiltin.NewCheckoutOptions()
	o.UserMode = user
	return otbuiltin.Checkout(repo, dir, commit, o)
}

// Fsck verifies every object with libostree and gives their number.
func Fsck(path string) (n int, err error) {
	err = with(path, func(repo *C.OstreeRepo) error {
		var e *C.GError
		if n = int(C.fsck_all(repo, &e)); n < 0 {
			return goError(e)
		}
		return nil
	})
	return n, err
}

// ContentChecksum gives libostree's checksum of a commit's tree.
func ContentChecksum(path, commit string) (sum string, err error) {
	ccommit := C.CString(commit)
	defer C.free(unsafe.Pointer(ccommit))
	err = with(path, func(repo *C.OstreeRepo) error {
		var e *C.GError
		c := C.root_checksum(repo, ccommit, &e)
		if c == nil {
			return goError(e)
		}
		defer C.free(unsafe.Pointer(c))
		sum = C.GoString(c)
		return nil
	})
	return sum, err
}
