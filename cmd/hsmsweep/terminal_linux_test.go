package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"hsmsweep/internal/emulator/arm"
)

// TestSubmitOnTerminal has the bar on a terminal's stderr, and the lines in a file: each what its reader can use.
func TestSubmitOnTerminal(t *testing.T) {
	t.Parallel()
	const n = 20
	a := startAzure(t, 1, arm.Script{})
	for _, c := range []struct {
		toFile bool
		lines  int
	}{{true, n}, {false, 0}} {
		screen, terminal := openTerminal(t)
		args := []string{"submit"}
		for i := range n {
			args = append(args, connectionID(i))
		}
		var file bytes.Buffer
		cmd := exec.CommandContext(t.Context(), "hsmsweep", args...)
		cmd.Env = append([]string{noRaceNap}, a.env...)
		cmd.Stdout, cmd.Stderr = terminal, terminal
		if c.toFile {
			cmd.Stdout = &file
		}
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		_ = terminal.Close()
		seen, _ := io.ReadAll(screen) // ends in an error once nobody has the terminal open
		if want := fmt.Sprintf("100%% |"); !strings.Contains(string(seen), want) || !strings.Contains(string(seen), fmt.Sprintf("(%d/%d", n, n)) || !strings.HasSuffix(string(seen), "\r\n") {
			t.Errorf("the terminal shows %q, want a full bar and the end of its line", seen)
		}
		if strings.Contains(string(seen), "submitted /") || strings.Count(string(seen), "\n") != 1 || strings.Count(file.String(), "submitted ") != c.lines {
			t.Errorf("the terminal shows %q and the file has %d lines, want the bar alone and %d", seen, strings.Count(file.String(), "\n"), c.lines)
		}
	}
}

// openTerminal opens a pseudo terminal of 100 columns: its screen, and the side that a program has.
func openTerminal(t *testing.T) (screen, terminal *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo terminals here: ", err)
	}
	t.Cleanup(func() { _ = screen.Close() })
	var locked, number uint32
	size := struct{ rows, columns, x, y uint16 }{24, 100, 0, 0}
	for request, argument := range map[uintptr]unsafe.Pointer{
		syscall.TIOCSPTLCK: unsafe.Pointer(&locked), syscall.TIOCGPTN: unsafe.Pointer(&number), syscall.TIOCSWINSZ: unsafe.Pointer(&size),
	} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, screen.Fd(), request, uintptr(argument)); errno != 0 {
			t.Fatal(errno)
		}
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = terminal.Close() })
	return screen, terminal
}

// TestDropOnTerminal asks before it drops. Whatever is not yes is no.
func TestDropOnTerminal(t *testing.T) {
	t.Parallel()
	a := startAzure(t, 2, arm.Script{})
	a.deaden(t, 2)
	queue, err := a.Broker.Entity(defaultQueue)
	if err != nil {
		t.Fatal(err)
	}
	for _, answer := range []string{"", "n", "drop", "y"} {
		screen, terminal := openTerminal(t)
		p := exec.CommandContext(t.Context(), "hsmsweep", "deadletter", "drop")
		p.Env = append([]string{noRaceNap}, a.env...)
		p.Stdin, p.Stdout, p.Stderr = terminal, terminal, terminal
		if _, err := io.WriteString(screen, answer+"\n"); err != nil {
			t.Fatal(err)
		}
		err := p.Run()
		_ = terminal.Close()
		seen, _ := io.ReadAll(screen) // ends in an error once nobody has the terminal open
		left := 2
		if answer == "y" {
			left = 0
		}
		if !strings.Contains(string(seen), "Drop 2 dead letters (2 OutOfScope)? [y/N]") || (err == nil) != (left == 0) || queue.Counts().DeadLetter != left {
			t.Errorf("%q: %v, %d dead letters, and on the screen\n%s", answer, err, queue.Counts().DeadLetter, seen)
		}
	}
}
