// SPDX-License-Identifier: Apache-2.0

// Package scripts runs programs of a tree inside that tree: package
// scriptlets, file triggers, and through [Sandbox.Run] whatever else a compose
// needs (depmod, dracut, postprocess scripts).
//
// The files of an assembled tree are hard links into the package cache, so
// nothing may write through them. [With] therefore lays an overlay over the
// tree, in a mount namespace that belongs to one thread and dies with it, and
// merges the upper layer into the tree by rename when everything succeeded. A
// failure or a crash leaves the tree and the cache as they were; what remains
// is a directory below the work directory.
//
// [Install] is the package manager's part: accounts, %pre, owners, %post,
// %posttrans and triggers in order; [Explain] tells beforehand what it does with
// every script. Lua runs in a process of its own where Options.LuaHelper names
// one, see [ServeLua]. What is deliberately not run is listed with its reason in
// [DefaultRules]; these kinds are never run: %preun, %postun,
// %triggerun, %triggerpostun, %preuntrans, %postuntrans, %verifyscript and
// %pretrans in a language other than Lua, for a composed tree never removes or
// replaces an installed package.
package scripts
