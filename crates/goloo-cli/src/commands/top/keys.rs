//! What each key means. Pure.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Quit,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    Ssh,
    Logs,
    Start,
    Stop,
    Delete,
    Filter,
    NextOrder,
    ReverseOrder,
    Refresh,
    Help,
    /// Adds a character to the text.
    Type(char),
    /// Removes the text's last character.
    Erase,
    /// Agrees, or finishes the text.
    Submit,
    /// Leaves a dialog, or the text.
    Cancel,
}

/// What has the keyboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyContext {
    List,
    /// The filter is typed.
    Filter,
    /// A question waits for a text.
    Words,
    /// A question waits for yes or no.
    YesNo,
    Help,
}

/// The keys, as the help shows them.
pub const HELP: [(&str, &str); 12] = [
    ("Up Down PgUp PgDn Home End", "select a VM (also k j g G)"),
    ("Enter", "log in with SSH"),
    ("l", "follow cloud-init's log until Ctrl-C"),
    ("s", "start"),
    ("x", "stop"),
    ("d", "delete, after a question"),
    ("/", "filter: name, environment, provider, state, tag"),
    ("o", "sort by the next column"),
    ("i", "reverse the order"),
    ("r", "refresh now"),
    ("Esc", "remove the message, then the filter"),
    ("q Ctrl-C", "quit"),
];

/// The action of a key; `None` for a key without one.
pub fn action(context: KeyContext, key: &KeyEvent) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    if is_control && key.code == KeyCode::Char('c') {
        return Some(Action::Quit);
    }
    if is_control || key.modifiers.contains(KeyModifiers::ALT) {
        return None;
    }
    match context {
        KeyContext::List => in_list(key.code),
        // The list can be seen to change while the filter is typed.
        KeyContext::Filter => in_text(key.code).or_else(|| moves(key.code)),
        KeyContext::Words => in_text(key.code),
        KeyContext::YesNo => in_question(key.code),
        KeyContext::Help => Some(Action::Cancel),
    }
}

fn in_list(key: KeyCode) -> Option<Action> {
    Some(match key {
        KeyCode::Char('q') => Action::Quit,
        KeyCode::Char('k') => Action::Up,
        KeyCode::Char('j') => Action::Down,
        KeyCode::Char('g') => Action::First,
        KeyCode::Char('G') => Action::Last,
        KeyCode::Enter => Action::Ssh,
        KeyCode::Char('l') => Action::Logs,
        KeyCode::Char('s') => Action::Start,
        KeyCode::Char('x') => Action::Stop,
        KeyCode::Char('d') => Action::Delete,
        KeyCode::Char('/') => Action::Filter,
        KeyCode::Char('o') => Action::NextOrder,
        KeyCode::Char('i') => Action::ReverseOrder,
        KeyCode::Char('r') => Action::Refresh,
        KeyCode::Char('?') => Action::Help,
        KeyCode::Esc => Action::Cancel,
        _ => return moves(key),
    })
}

fn moves(key: KeyCode) -> Option<Action> {
    Some(match key {
        KeyCode::Up => Action::Up,
        KeyCode::Down => Action::Down,
        KeyCode::PageUp => Action::PageUp,
        KeyCode::PageDown => Action::PageDown,
        KeyCode::Home => Action::First,
        KeyCode::End => Action::Last,
        _ => return None,
    })
}

fn in_text(key: KeyCode) -> Option<Action> {
    Some(match key {
        KeyCode::Char(character) => Action::Type(character),
        KeyCode::Backspace => Action::Erase,
        KeyCode::Enter => Action::Submit,
        KeyCode::Esc => Action::Cancel,
        _ => return None,
    })
}

/// Only a clear yes agrees: Enter may be meant for something else.
fn in_question(key: KeyCode) -> Option<Action> {
    match key {
        KeyCode::Char('y' | 'Y') => Some(Action::Submit),
        KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc => Some(Action::Cancel),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(context: KeyContext, code: KeyCode) -> Option<Action> {
        action(context, &KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn letters_are_commands_in_the_list_and_text_elsewhere() {
        for (letter, command) in [
            ('q', Action::Quit),
            ('s', Action::Start),
            ('x', Action::Stop),
            ('d', Action::Delete),
            ('l', Action::Logs),
            ('/', Action::Filter),
            ('?', Action::Help),
        ] {
            assert_eq!(press(KeyContext::List, KeyCode::Char(letter)), Some(command));
            for context in [KeyContext::Filter, KeyContext::Words] {
                assert_eq!(press(context, KeyCode::Char(letter)), Some(Action::Type(letter)));
            }
        }
        assert_eq!(press(KeyContext::List, KeyCode::Char('z')), None);
    }

    #[test]
    fn only_y_agrees_to_a_question() {
        for code in [KeyCode::Char('y'), KeyCode::Char('Y')] {
            assert_eq!(press(KeyContext::YesNo, code), Some(Action::Submit));
        }
        for code in [KeyCode::Char('n'), KeyCode::Char('q'), KeyCode::Esc] {
            assert_eq!(press(KeyContext::YesNo, code), Some(Action::Cancel));
        }
        for code in [KeyCode::Enter, KeyCode::Char(' '), KeyCode::Char('d'), KeyCode::Down] {
            assert_eq!(press(KeyContext::YesNo, code), None);
        }
    }

    #[test]
    fn ctrl_c_quits_everywhere_and_other_control_keys_do_nothing() {
        use KeyContext::{Filter, Help, List, Words, YesNo};
        for context in [List, Filter, Words, YesNo, Help] {
            let control = |letter| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL);
            assert_eq!(action(context, &control('c')), Some(Action::Quit));
            assert_eq!(action(context, &control('d')), None);
        }
    }

    #[test]
    fn the_selection_moves_while_the_filter_is_typed_but_not_behind_a_question() {
        assert_eq!(press(KeyContext::Filter, KeyCode::Down), Some(Action::Down));
        assert_eq!(press(KeyContext::Words, KeyCode::Down), None);
    }
}
