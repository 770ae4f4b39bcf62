package protocol

import (
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestPagesAreEncodedAsJSONDoes fills every member of a page that there is, so that one that is added cannot be forgotten.
func TestPagesAreEncodedAsJSONDoes(t *testing.T) {
	t.Parallel()
	times := rapid.Custom(func(t *rapid.T) any {
		if rapid.Bool().Draw(t, "zero") {
			return time.Time{}
		}
		zone := time.FixedZone("", 60*rapid.IntRange(-720, 720).Draw(t, "zone"))
		return time.Unix(rapid.Int64Range(0, 1<<34).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).In(zone)
	})
	texts := rapid.OneOf(rapid.Just(""), rapid.StringMatching(`[ -~]{0,12}`), rapid.String(), rapid.Just("\x00<&>\"\\\u2028\xff"))
	pages := rapid.MakeCustom[Page](rapid.MakeConfig{
		Types: map[reflect.Type]*rapid.Generator[any]{reflect.TypeFor[time.Time](): times},
		Kinds: map[reflect.Kind]*rapid.Generator[any]{reflect.String: texts.AsAny()},
	})
	rapid.Check(t, func(t *rapid.T) {
		page := pages.Draw(t, "page")
		want, err := Encode(page)
		if err != nil {
			t.Fatal(err)
		}
		got, err := EncodePage(&page)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	})
}

func TestPageWithAnImpossibleTimeIsRefused(t *testing.T) {
	t.Parallel()
	never := time.Date(20_000, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, r := range []Receipt{{RetryAt: never}, {Attempts: []Attempt{{Start: never}}}, {Attempts: []Attempt{{End: never}}}} {
		if _, err := EncodePage(&Page{Receipts: []Receipt{r}}); err == nil {
			t.Errorf("%+v was encoded", r)
		}
	}
}
