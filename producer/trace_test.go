package producer

import "testing"

func TestTraceparent(t *testing.T) {
	t.Parallel()
	const sent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	if got := traceparent(sent); got != sent {
		t.Errorf("a valid one became %q", got)
	}
	for _, bad := range []string{
		"", "x", sent + "x", "ff" + sent[2:], "00-" + noTrace + "-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-" + noSpan + "-01",
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
	} {
		got := traceparent(bad)
		if got == bad || !traceparentForm.MatchString(got) {
			t.Errorf("traceparent(%q) = %q", bad, got)
		}
		if again := traceparent(bad); again == got {
			t.Errorf("two calls share the trace %q", got)
		}
	}
}
