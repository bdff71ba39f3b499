//! Common family and given names, put together by chance.

use super::choice::Choice;

/// A name with its reading (振り仮名).
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    /// As written in the register.
    pub(super) written: &'static str,
    /// In katakana.
    pub(super) kana: &'static str,
}

/// A name and its reading.
pub(super) const fn name(written: &'static str, kana: &'static str) -> Name {
    Name { written, kana }
}

/// Family names.
pub(super) static FAMILY: Choice<Name> = Choice::of(
    name("佐藤", "サトウ"),
    &[
        name("鈴木", "スズキ"),
        name("高橋", "タカハシ"),
        name("髙橋", "タカハシ"),
        name("田中", "タナカ"),
        name("伊藤", "イトウ"),
        name("渡辺", "ワタナベ"),
        name("渡邊", "ワタナベ"),
        name("渡邉", "ワタナベ"),
        name("山本", "ヤマモト"),
        name("中村", "ナカムラ"),
        name("小林", "コバヤシ"),
        name("加藤", "カトウ"),
        name("吉田", "ヨシダ"),
        name("\u{20bb7}田", "ヨシダ"),
        name("山田", "ヤマダ"),
        name("佐々木", "ササキ"),
        name("山口", "ヤマグチ"),
        name("松本", "マツモト"),
        name("井上", "イノウエ"),
        name("木村", "キムラ"),
        name("林", "ハヤシ"),
        name("斎藤", "サイトウ"),
        name("齋藤", "サイトウ"),
        name("齊藤", "サイトウ"),
        name("清水", "シミズ"),
        name("山崎", "ヤマザキ"),
        name("山\u{fa11}", "ヤマザキ"),
        name("池田", "イケダ"),
        name("阿部", "アベ"),
        name("橋本", "ハシモト"),
        name("石川", "イシカワ"),
        name("小川", "オガワ"),
        name("岡田", "オカダ"),
        name("長谷川", "ハセガワ"),
        name("藤田", "フジタ"),
        name("後藤", "ゴトウ"),
        name("近藤", "コンドウ"),
        name("村上", "ムラカミ"),
        name("遠藤", "エンドウ"),
        name("青木", "アオキ"),
        name("坂本", "サカモト"),
        name("福田", "フクダ"),
        name("太田", "オオタ"),
        name("西村", "ニシムラ"),
        name("藤井", "フジイ"),
        name("岡本", "オカモト"),
        name("中島", "ナカジマ"),
        name("中嶋", "ナカジマ"),
        name("原田", "ハラダ"),
        name("\u{8fbb}", "ツジ"),
        name("\u{8fbb}\u{e0100}", "ツジ"),
        name("比嘉", "ヒガ"),
        name("金城", "キンジョウ"),
        name("東海林", "ショウジ"),
        name("五十嵐", "イガラシ"),
        name("勅使河原", "テシガワラ"),
    ],
);

/// Given names of men.
pub(super) static MALE: Choice<Name> = Choice::of(
    name("太郎", "タロウ"),
    &[
        name("一郎", "イチロウ"),
        name("健一", "ケンイチ"),
        name("誠", "マコト"),
        name("浩", "ヒロシ"),
        name("隆", "タカシ"),
        name("\u{f9dc}", "タカシ"),
        name("茂", "シゲル"),
        name("博", "ヒロシ"),
        name("大輔", "ダイスケ"),
        name("翔太", "ショウタ"),
        name("拓也", "タクヤ"),
        name("直樹", "ナオキ"),
        name("和也", "カズヤ"),
        name("勇", "イサム"),
        name("正", "タダシ"),
        name("蓮", "レン"),
        name("陽翔", "ハルト"),
        name("樹", "イツキ"),
        name("悠真", "ユウマ"),
        name("秀樹", "ヒデキ"),
        name("達也", "タツヤ"),
        name("剛", "ツヨシ"),
        name("ノ一", "ノイチ"),
    ],
);

/// Given names of women.
pub(super) static FEMALE: Choice<Name> = Choice::of(
    name("花子", "ハナコ"),
    &[
        name("和子", "カズコ"),
        name("幸子", "サチコ"),
        name("節子", "セツコ"),
        name("洋子", "ヨウコ"),
        name("恵子", "ケイコ"),
        name("由美子", "ユミコ"),
        name("久美子", "クミコ"),
        name("陽子", "ヨウコ"),
        name("美咲", "ミサキ"),
        name("愛", "アイ"),
        name("さくら", "サクラ"),
        name("葵", "アオイ"),
        name("陽菜", "ヒナ"),
        name("結衣", "ユイ"),
        name("凜", "リン"),
        name("ゑみ", "エミ"),
        name("キヨ", "キヨ"),
        name("真由美", "マユミ"),
        name("裕子", "ユウコ"),
        name("千鶴", "チヅル"),
        name("いすゞ", "イスズ"),
    ],
);
