#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>

#include "base/strings.h"
#include "embed/image_inputs.h"
#include "embed/json_text.h"
#include "embed/text_inputs.h"
#include "tandem/error.h"

namespace tandem::embed {
namespace {

namespace fs = std::filesystem;

class InputsTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::temp_directory_path() / ("tandem_inputs_" + std::to_string(::getpid()) + "_" + test->name());
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& content) {
    const fs::path path = folder_ / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << content;
    return path.string();
  }
  std::string at(const std::string& name) const { return (folder_ / name).string(); }

  fs::path folder_;
};

std::vector<Item> all(ItemSource& source) {
  std::vector<Item> items;
  for (Item item; source.next(item);) items.push_back(item);
  return items;
}

std::vector<std::string> names(const std::vector<Item>& items) {
  std::vector<std::string> out;
  for (const Item& item : items) out.push_back((item.error ? "! " : "") + item.input);
  return out;
}

using Names = std::vector<std::string>;

TEST_F(InputsTest, LinesAreTextsEmptyOnesToo) {
  TextInputs source(write("t.txt", "one\r\n\n three \nlast\r without end"));
  EXPECT_EQ(names(all(source)), (Names{"one", "", " three ", "last\r without end"}));
  TextInputs ended(write("e.txt", "a\nb\n"));
  EXPECT_EQ(names(all(ended)), (Names{"a", "b"}));
  TextInputs empty(write("n.txt", ""));
  EXPECT_TRUE(all(empty).empty());
  TextInputs marked(write("m.txt",
                          "\xEF\xBB\xBF"
                          "a\n\xEF\xBB\xBF"
                          "b"));
  EXPECT_EQ(names(all(marked)), (Names{"a",
                                       "\xEF\xBB\xBF"
                                       "b"}));
}

TEST_F(InputsTest, LinesLongerThanTheReadBuffer) {
  const std::string big(3'000'000, 'x');
  TextInputs source(write("t.txt", "a\n" + big + "\nb\n"));
  EXPECT_EQ(names(all(source)), (Names{"a", big, "b"}));
}

TEST_F(InputsTest, LinesBeyondTheLimitAreCutAndTheNextIsWhole) {
  const std::string path = write("t.txt", "ab\n" + std::string(5'000'000, 'x') + "\ncd");
  LineReader lines(path, nullptr, 100);
  std::string_view line;
  ASSERT_TRUE(lines.next(line));
  EXPECT_EQ(line, "ab");
  EXPECT_FALSE(lines.cut());
  ASSERT_TRUE(lines.next(line));
  EXPECT_EQ(line, std::string(100, 'x'));
  EXPECT_TRUE(lines.cut());
  ASSERT_TRUE(lines.next(line));
  EXPECT_EQ(line, "cd");
  EXPECT_FALSE(lines.cut());
  EXPECT_EQ(lines.number(), 3U);
  EXPECT_FALSE(lines.next(line));
}

TEST_F(InputsTest, JsonLinesFailOneByOne) {
  TextInputs source(write("t.jsonl",
                          "{\"text\": \"line\\nbreak \\u00e9\", \"id\": 1}\n"
                          "{\"text\": \n"
                          "\n"
                          "{\"texts\": \"x\"}\n"
                          "{\"text\": 3}\n"
                          "[1]\n"
                          "{\"text\": \"\xff\"}\n"
                          "{\"text\": \"\"}"));
  const auto items = all(source);
  ASSERT_EQ(items.size(), 7U);
  EXPECT_EQ(items[0].input, "line\nbreak \u00e9");
  EXPECT_EQ(items[6].input, "");
  EXPECT_FALSE(items[0].error || items[6].error);
  for (std::size_t i = 1; i < 6; ++i) {
    ASSERT_TRUE(items[i].error) << i;
    EXPECT_EQ(items[i].error->code, Code::bad_data);
  }
  EXPECT_NE(items[1].error->message.find("line 2"), std::string::npos) << items[1].error->message;
  EXPECT_NE(items[3].error->message.find("number"), std::string::npos) << items[3].error->message;
  EXPECT_EQ(items[4].input, "[1]");
}

TEST_F(InputsTest, WithoutAnExtensionTheFirstLineDecides) {
  TextInputs objects(write("objects", "{\"text\":\"a\"}\n{\"text\":\"b\"}\n"));
  EXPECT_EQ(names(all(objects)), (Names{"a", "b"}));
  TextInputs lines(write("lines", "{not json\n{\"text\":\"b\"}\n"));
  EXPECT_EQ(names(all(lines)), (Names{"{not json", "{\"text\":\"b\"}"}));
  TextInputs forced(write("forced", "{\"text\":\"a\"}\n"), TextFormat::lines);
  EXPECT_EQ(names(all(forced)), (Names{"{\"text\":\"a\"}"}));
}

TEST_F(InputsTest, TextFilesThatCannotBe) {
  EXPECT_THROW(TextInputs(write("t.csv", "a")), Error);
  EXPECT_NO_THROW(TextInputs(at("t.csv"), TextFormat::lines));
  EXPECT_THROW(TextInputs(at("none.txt")), Error);
  fs::create_directory(at("folder.txt"));
  EXPECT_THROW(TextInputs(at("folder.txt")), Error);
}

TEST_F(InputsTest, FoldersAreSearchedBelowAndSorted) {
  for (const char* name : {"b.png", "a/z.JPEG", "a/y.txt", "a.webp", "c.PnG", "d.gif", "e.bmp", "f.jpg", ".png", "g"}) {
    write(name, "x");
  }
  fs::create_directory_symlink(folder_, folder_ / "a" / "back");  // a circle
  write("elsewhere_.x", "");
  const std::string f = folder_.string() + "/";
  ImageInputs source({folder_.string()});
  EXPECT_EQ(source.total(), 7U);
  EXPECT_EQ(names(all(source)),
            (Names{f + "a.webp", f + "a/z.JPEG", f + "b.png", f + "c.PnG", f + "d.gif", f + "e.bmp", f + "f.jpg"}));
}

TEST_F(InputsTest, AFolderIsReadOnceWhateverLinksLeadToIt) {
  // Without that, thirty folders with two links each, from one to the next, hold 2^30 pictures.
  for (int i = 0; i < 30; ++i) {
    write(cat("tree/", i, "/p.png"), "x");
    fs::create_directory_symlink(folder_ / "tree" / cat((i + 1) % 30), folder_ / "tree" / cat(i) / "one");
    fs::create_directory_symlink(folder_ / "tree" / cat((i + 1) % 30), folder_ / "tree" / cat(i) / "two");
  }
  const auto found = names(list_folder(at("tree")));
  ASSERT_EQ(found.size(), 30u);
  for (int i = 0; i < 30; ++i) EXPECT_EQ(std::count(found.begin(), found.end(), at(cat("tree/", i, "/p.png"))), 1) << i;

  // Elsewhere: by the first link, whose target has links of its own.
  write("elsewhere/p.png", "x");
  write("further/q.png", "x");
  fs::create_directory_symlink(folder_ / "further", folder_ / "elsewhere" / "more");
  fs::create_directory(at("links"));
  fs::create_directory_symlink(folder_ / "elsewhere", folder_ / "links" / "b");
  fs::create_directory_symlink(folder_ / "elsewhere", folder_ / "links" / "a");
  fs::create_symlink(folder_ / "gone", folder_ / "links" / "dangling");
  write("links/real/r.png", "x");
  fs::create_directory_symlink(folder_ / "links" / "real", folder_ / "links" / "aa");
  EXPECT_EQ(names(list_folder(at("links"))),
            (Names{at("links/a/more/q.png"), at("links/a/p.png"), at("links/real/r.png")}));
}

TEST_F(InputsTest, ArgumentsKeepTheirOrderAndWhatIsMissingIsAnItem) {
  write("z.dat", "x");
  write("p1.png", "x");
  write("p2.png", "x");
  write("q[1].png", "x");
  fs::create_directory(at("empty"));
  ImageInputs source(
      {at("z.dat"), at("none.png"), at("p?.png"), at("q[1].png"), at("*.tiff"), at("{p2,p1}.png"), at("empty")});
  const auto items = all(source);
  EXPECT_EQ(names(items), (Names{at("z.dat"), "! " + at("none.png"), at("p1.png"), at("p2.png"), at("q[1].png"),
                                 "! " + at("*.tiff"), at("p2.png"), at("p1.png"), "! " + at("empty")}));
  EXPECT_EQ(items[1].error->code, Code::not_found);
  EXPECT_EQ(items[5].error->code, Code::not_found);
}

TEST_F(InputsTest, StandardInputIsListedOnce) {
  EXPECT_THROW(ImageInputs({"-", "-"}), Error);
}

TEST(JsonText, StringsCanAlwaysBeReadBack) {
  const auto json = [](std::string_view text) {
    std::string out;
    append_json(out, text);
    return out;
  };
  EXPECT_EQ(json("a\"b\\c\n\t\r\x01\x7f"), "\"a\\\"b\\\\c\\n\\t\\r\\u0001\\u007f\"");
  EXPECT_EQ(json("\u00e9\u20ac\U0001F600"), "\"\u00e9\u20ac\U0001F600\"");
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(json("a\xff"
                 "b"),
            "\"a" + bad + "b\"");
  EXPECT_EQ(json("\xE2\x82"), "\"" + bad + "\"");                  // cut short: one maximal subpart
  EXPECT_EQ(json("\xED\xA0\x80"), "\"" + bad + bad + bad + "\"");  // a surrogate
  EXPECT_EQ(json("\xC0\xAF"), "\"" + bad + bad + "\"");            // overlong
  EXPECT_EQ(json("\xF4\x90\x80\x80"), "\"" + bad + bad + bad + bad + "\"");
}

TEST(JsonText, FloatsAreShortAndExact) {
  std::string out;
  append_json(out, std::span<const float>(
                       std::vector<float>{0.1F, 1.0F, -2.5e-8F, 16777217.0F, std::numeric_limits<float>::infinity()}));
  EXPECT_EQ(out, "[0.1,1,-2.5e-08,16777216,null]");
}

}  // namespace
}  // namespace tandem::embed
