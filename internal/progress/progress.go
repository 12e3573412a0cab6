// SPDX-License-Identifier: Apache-2.0

// Package progress carries typed progress events from the libraries to whoever
// renders them. Libraries never print; cmd decides between tty, plain and JSON.
package progress

// Kind says what an Event reports about its task.
type Kind uint8

// The kinds of event. A task begins once, is updated any number of times and
// ends once; a message stands alone.
const (
	Begin Kind = iota + 1
	Update
	End
	Message
)

// Event is one report. Task is a short human phrase ("Receiving objects") that
// also identifies the task. Done and Total count items, Bytes and TotalBytes
// count bytes; a total of zero means that it is not known. Text is free detail,
// or the whole message for Kind Message.
type Event struct {
	Task              string
	Kind              Kind
	Done, Total       int64
	Bytes, TotalBytes int64
	Text              string
}

// Func receives events. It may be called from several goroutines at once and
// must return quickly.
type Func func(Event)

// Emit calls f unless it is nil.
func (f Func) Emit(e Event) {
	if f != nil {
		f(e)
	}
}

// Message emits a stand-alone line.
func (f Func) Message(text string) { f.Emit(Event{Kind: Message, Text: text}) }
