#include "base/strings.h"

#include <gtest/gtest.h>

namespace tandem {
namespace {

TEST(Strings, CatJoinsWhatStreamsCanPrint) {
  EXPECT_EQ(cat("side ", 12, ' ', 0.5, std::string(" is"), std::string_view(" small")), "side 12 0.5 is small");
}

TEST(Strings, PrintableIsOneLineOfUtf8) {
  EXPECT_EQ(printable("plain text"), "plain text");
  EXPECT_EQ(printable("é漢🙂"), "é漢🙂");
  EXPECT_EQ(printable("a\nb\tc\x1b[31m\x7f"), "a b c [31m ");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m\xc2\xa0"),
            " 31m\xc2\xa0");  // the other control characters, and a blank that is none of them
  EXPECT_EQ(printable("caf\xe9.png"), "caf\\xE9.png");
  EXPECT_EQ(printable("\xff\xfe"), "\\xFF\\xFE");
  EXPECT_EQ(printable("\xe2\x82"), "\\xE2\\x82");           // cut off
  EXPECT_EQ(printable("\xed\xa0\x80"), "\\xED\\xA0\\x80");  // half of a surrogate pair
  EXPECT_EQ(printable("\xc0\xaf\xf5"), "\\xC0\\xAF\\xF5");  // overlong, beyond Unicode
  EXPECT_EQ(printable(std::string_view("a\0b", 3)), "a b");
}

TEST(Strings, Utf8LengthsOfEveryKind) {
  const auto good = [](std::string_view text) { return utf8_length(text).good; };
  const auto bad = [](std::string_view text) { return utf8_length(text).bad; };
  EXPECT_EQ(good("a"), 1u);
  EXPECT_EQ(good("é"), 2u);
  EXPECT_EQ(good("漢"), 3u);
  EXPECT_EQ(good("🙂x"), 4u);
  EXPECT_EQ(good("\xf4\x8f\xbf\xbf"), 4u);
  EXPECT_EQ(good("\xf4\x90\x80\x80"), 0u);
  EXPECT_EQ(bad("\x80"), 1u);
  EXPECT_EQ(bad("\xe2\x82x"), 2u);
  EXPECT_EQ(bad("\xf0\x9f\x99"), 3u);
  EXPECT_EQ(bad("\xe0\x80\x80"), 1u);
  EXPECT_EQ(good("") + bad(""), 0u);
}

TEST(Strings, ListsHaveLinesOrCommas) {
  using Parts = std::vector<std::string>;
  EXPECT_EQ(split_list("a, b ,,c d,"), (Parts{"a", "b", "c d"}));
  EXPECT_EQ(split_list("one, two\r\n\n  three\t\n"), (Parts{"one, two", "three"}));
  EXPECT_EQ(split_list(" , \n , "), (Parts{",", ","}));
  EXPECT_EQ(split_list(""), Parts{});
  EXPECT_EQ(split_list(" ,,  "), Parts{});
}

}  // namespace
}  // namespace tandem
